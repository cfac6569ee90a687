"""What training moves: a plain pytree of arrays, and the network's graph apart from it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from resnet_jax import random_streams
from resnet_jax.config import Config
from resnet_jax.models import (
    Views,
    compile_for_initialisation,
    evaluation_view,
    mean_over_views,
    one_view,
    training_view,
)

Arrays = dict[str, Any]


@jax.tree_util.register_dataclass
@dataclass
class TrainState:
    """Everything that changes from step to step; arrays only.

    Attributes:
        step: int32 scalar, optimiser steps done.
        params: nested dict of float32 arrays, keyed by the module names of the network.
        batch_stats: nested dict of float32 running means and variances.
        opt_state: state of the Optax transformation.
        ema: `{"params", "batch_stats"}` averaged over steps, or empty where there is no average.
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
    """Which weights `TrainState.evaluated` takes: `averaged`, or `raw` where there is no average."""
    return "raw" if config.train.ema_decay is None else "averaged"


def pure_arrays(model: nnx.Module) -> Arrays:
    """`{"params", "batch_stats"}` of a module as nested dicts."""
    params, batch_stats = nnx.state(model, nnx.Param, nnx.BatchStat)
    return {"params": nnx.to_pure_dict(params), "batch_stats": nnx.to_pure_dict(batch_stats)}


@dataclass(frozen=True)
class Network:
    """The static part of an NNX module, split off once, with its train and eval views.

    Attributes:
        build: makes the module from its `nnx.Rngs`.
        train_graph, eval_graph: graph definitions.
        views: of the images, over which evaluation averages the logits.
    """

    build: Callable[[nnx.Rngs], Any]
    train_graph: Any
    eval_graph: Any
    views: Views = one_view

    def initialise(self, key: jax.Array) -> Arrays:
        """Fresh `{"params", "batch_stats"}`; pure, so it can be compiled."""
        return pure_arrays(self.build(nnx.Rngs(key)))

    def train(
        self,
        params: Arrays,
        batch_stats: Arrays,
        images: jax.Array,
        keys: jax.Array,
        survival_probability: jax.Array | None = None,
    ) -> tuple[jax.Array, Arrays]:
        """Logits float32[batch, classes] by batch statistics, and the new running statistics.

        `survival_probability` is p_L of stochastic depth instead of the module's own.
        """
        model = nnx.merge(self.train_graph, params, batch_stats)
        logits = model(images, keys, survival_probability)
        return logits, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))

    def evaluate(
        self,
        params: Arrays,
        batch_stats: Arrays,
        images: jax.Array,
        survival_probability: jax.Array | None = None,
    ) -> jax.Array:
        """Logits float32[batch, classes] by running statistics."""
        model = nnx.merge(self.eval_graph, params, batch_stats)
        answer = partial(model, survival_probability=survival_probability)
        return mean_over_views(answer, self.views(images))


def make_network(build: Callable[[nnx.Rngs], Any], views: Views = one_view) -> Network:
    """Split off the graph of the module that `build` makes, without computing its arrays."""
    model = nnx.eval_shape(lambda: build(nnx.Rngs(0)))
    train_graph = nnx.graphdef(training_view(model))
    eval_graph = nnx.graphdef(evaluation_view(model))
    return Network(build, train_graph, eval_graph, views)


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
        opt_state=optimizer.init(arrays["params"]),
        ema=jax.tree.map(jnp.copy, arrays) if with_ema else {},
        **arrays,
    )
