"""What training moves: a plain pytree of arrays, and the network's graph apart from it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict

from resnet_jax import random_streams
from resnet_jax.config import Config
from resnet_jax.models import (
    Views,
    compile_for_initialisation,
    evaluation_view,
    mean_over_views,
    one_view,
    trainable,
    training_view,
)

Arrays = dict[str, Any]


@jax.tree_util.register_dataclass
@dataclass
class TrainState:
    """Everything that changes from step to step; arrays only.

    Attributes:
        step: int32 scalar, optimiser steps done.
        params: nested dict of float32 arrays, keyed by the module names of the network; frozen ones too.
        batch_stats: nested dict of float32 running means and variances.
        opt_state: state of the Optax transformation, which sees the parameters that train.
        ema: `{"params", "batch_stats"}` averaged over steps; empty: they are not averaged.
    """

    step: jax.Array
    params: Arrays
    batch_stats: Arrays
    opt_state: Any
    ema: Arrays

    def evaluated(self) -> Arrays:
        """`{"params", "batch_stats"}` that evaluation uses: the average where there is one."""
        return self.ema or {"params": self.params, "batch_stats": self.batch_stats}


def weights_of(config: Config) -> str:
    """Which weights `TrainState.evaluated` takes: `averaged`, or `raw` where weights are not averaged."""
    return "raw" if config.train.ema_decay is None else "averaged"


def pure_arrays(model: nnx.Module) -> Arrays:
    """`{"params", "batch_stats"}` of a module as nested dicts."""
    params, batch_stats = nnx.state(model, nnx.Param, nnx.BatchStat)
    return {"params": nnx.to_pure_dict(params), "batch_stats": nnx.to_pure_dict(batch_stats)}


@jax.jit
def snapshot(state: TrainState) -> tuple[TrainState, jax.Array]:
    """A copy of a state, whose buffers the next step takes; and whether all of it is finite: bool[]."""
    weights = jax.tree.leaves((state.params, state.batch_stats, state.ema))
    # A second moment that overflowed stops the training in silence. Scalars may be infinite: a best loss
    # before the first, for example.
    weights += [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim]
    finite = jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in weights]))
    return jax.tree.map(jnp.copy, state), finite


@dataclass(frozen=True)
class Network:
    """The static part of an NNX module, split off once, with its train and eval views.

    Attributes:
        build: makes the module from its `nnx.Rngs`.
        train_graph, eval_graph: graph definitions.
        views: of the images, over which evaluation averages the logits.
        frozen: paths of the parameters that do not train.
        survival: p_L of stochastic depth instead of the graphs' own; may be traced.
    """

    build: Callable[[nnx.Rngs], Any]
    train_graph: Any
    eval_graph: Any
    views: Views = one_view
    frozen: frozenset[tuple[Any, ...]] = frozenset()
    survival: jax.Array | None = None

    def separate(self, params: Arrays) -> tuple[Arrays, Arrays]:
        """The parameters that train, and the frozen ones."""
        if not self.frozen:
            return params, {}
        flat = flatten_dict(params)
        frozen = {path: flat.pop(path) for path in self.frozen}
        return unflatten_dict(flat), unflatten_dict(frozen)

    def initialise(self, key: jax.Array) -> Arrays:
        """Fresh `{"params", "batch_stats"}`; pure, so it can be compiled."""
        return pure_arrays(self.build(nnx.Rngs(key)))

    def train(
        self, params: Arrays, batch_stats: Arrays, images: jax.Array, keys: jax.Array
    ) -> tuple[jax.Array, Arrays]:
        """Logits float32[batch, classes] by batch statistics, and the new running statistics."""
        model = self._merge(self.train_graph, params, batch_stats)
        logits = model(images, keys)
        return logits, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))

    def evaluate(self, params: Arrays, batch_stats: Arrays, images: jax.Array) -> jax.Array:
        """Logits float32[batch, classes] by running statistics."""
        model = self._merge(self.eval_graph, params, batch_stats)
        return mean_over_views(model, self.views(images))

    def _merge(self, graph: Any, params: Arrays, batch_stats: Arrays) -> Any:
        model = nnx.merge(graph, params, batch_stats)
        if self.survival is not None:
            model.set_survival(self.survival)
        return model


def joined(trained: Arrays, frozen: Arrays) -> Arrays:
    """All parameters: the inverse of `Network.separate`."""
    if not frozen:
        return trained
    return unflatten_dict(flatten_dict(trained) | flatten_dict(frozen))


def make_network(build: Callable[[nnx.Rngs], Any], views: Views = one_view) -> Network:
    """Split off the graph of the module that `build` makes, without computing its arrays."""
    model = nnx.eval_shape(lambda: build(nnx.Rngs(0)))
    train_graph = nnx.graphdef(training_view(model))
    eval_graph = nnx.graphdef(evaluation_view(model))
    every, trained = (
        {path for path, _ in nnx.to_flat_state(nnx.state(model, kind))}
        for kind in (nnx.Param, trainable)
    )
    return Network(build, train_graph, eval_graph, views, frozenset(every - trained))


def initial_state(
    network: Network, optimizer: optax.GradientTransformation, seed: int, with_ema: bool
) -> TrainState:
    """The state at step 0, on the first device.

    Args:
        network: of the run.
        optimizer: its state is part of it.
        seed: of the run.
        with_ema: keep averaged weights too.
    """
    return compile_initialisation(network, optimizer, with_ema)(random_streams.run_key(seed))


def compile_initialisation(
    network: Network, optimizer: optax.GradientTransformation, with_ema: bool
) -> Callable[[jax.Array], TrainState]:
    """A compiled function from the key of a run to its state at step 0."""
    return compile_for_initialisation(partial(_fresh_state, network, optimizer, with_ema))


def state_shapes(
    network: Network, optimizer: optax.GradientTransformation, with_ema: bool
) -> TrainState:
    """What `initial_state` returns, as `jax.ShapeDtypeStruct`s."""
    make = partial(_fresh_state, network, optimizer, with_ema)
    return jax.eval_shape(make, random_streams.run_key(0))


def _fresh_state(
    network: Network, optimizer: optax.GradientTransformation, with_ema: bool, key: jax.Array
) -> TrainState:
    arrays = network.initialise(random_streams.stream_key(key, random_streams.INIT, 0))
    return TrainState(
        step=jnp.int32(0),
        opt_state=optimizer.init(network.separate(arrays["params"])[0]),
        ema=jax.tree.map(jnp.copy, arrays) if with_ema else {},
        **arrays,
    )
