"""Training with frozen parts: one tree for all networks, and the optimiser sees what trains alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from resnet_jax import models
from resnet_jax.config import override
from resnet_jax.training.hyperparameters import Hyperparameters
from resnet_jax.training.model import model_builder
from resnet_jax.training.state import initial_state, make_network, pure_arrays
from resnet_jax.training.steps import StepOptions, train_step

DECAYED = optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1, 0.9))
FIELDS = {"model.freeze": ("stem", "stage2"), "model.norm_momentum": 0.5}


def batch_of(size):
    images = jax.random.normal(jax.random.key(0), (size, 8, 8, 1))
    labels = jnp.arange(size) % 10
    keys = jax.random.split(jax.random.key(2), size)
    return {"image": images, "label": labels, "mask": jnp.ones(size, bool), "key": keys}


def structure(tree):
    return jax.tree.map(jnp.shape, tree)


def built(config):
    return make_network(model_builder(config, 10, 1))


def test_a_config_and_create_have_one_tree_frozen_or_not(small_config):
    created = structure(pure_arrays(models.create("cifar_resnet8", in_channels=1)))
    for fields in ({}, FIELDS, {"model.norm": "frozen_batch"}):
        state = initial_state(built(override(small_config, fields)), DECAYED, 0, with_ema=True)
        assert structure({"params": state.params, "batch_stats": state.batch_stats}) == created
        assert structure(state.ema) == created


def test_a_deep_network_is_scanned_by_both(small_config):
    config = override(small_config, {"model.depth": 56})
    network = built(config)
    own = jax.eval_shape(network.initialise, jax.random.key(0))
    created = nnx.eval_shape(lambda: models.create("resnet56", in_channels=1))
    assert structure(own) == structure(pure_arrays(created))


@pytest.mark.parametrize("parts", [1, 2])
def test_frozen_parts_stay_and_the_others_take_the_step_of_their_gradient(small_config, parts):
    network = built(override(small_config, FIELDS))
    state = initial_state(network, DECAYED, 0, with_ema=True)
    trained = {name: tree for name, tree in state.params.items() if name not in ("stem", "stage2")}
    assert structure(optax.tree.get(state.opt_state, "trace")) == structure(trained)
    batch = batch_of(8)
    numbers = Hyperparameters(scalars={"train.ema_decay": 0.9})
    static = numbers, network, lambda _: DECAYED, StepOptions(accumulate_steps=parts)
    after, _ = jax.jit(lambda s, b: train_step(s, b, *static))(state, batch)
    for name in ("stem", "stage2"):
        for tree in ("params", "batch_stats"):
            kept = jax.tree.map(
                np.array_equal, getattr(after, tree)[name], getattr(state, tree)[name]
            )
            assert all(jax.tree.leaves(kept)), (tree, name)
            averaged = jax.tree.map(np.array_equal, after.ema[tree][name], state.ema[tree][name])
            assert all(jax.tree.leaves(averaged)), (tree, name)
    assert not np.array_equal(
        after.batch_stats["stage1"]["blocks"][0]["branch"]["norm1"]["mean"],
        state.batch_stats["stage1"]["blocks"][0]["branch"]["norm1"]["mean"],
    )
    if parts == 1:
        gradient = gradient_by_hand(state, batch)
        for name, tree in trained.items():
            expected = jax.tree.map(lambda w, g: w - 0.1 * (g + 0.1 * w), tree, gradient[name])
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
                after.params[name],
                expected,
            )


def gradient_by_hand(state, batch):
    """Of a network without frozen parameters, whose norms are frozen one by one."""
    model = models.create("cifar_resnet8", in_channels=1, norm_momentum=0.5)
    for part in (model.stem, model.stage2):
        for _, module in nnx.iter_modules(part):
            if isinstance(module, models.BatchNorm):
                module.frozen = True
    graph = nnx.graphdef(model)

    def loss(params):
        logits = nnx.merge(graph, params, state.batch_stats)(batch["image"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

    return jax.jit(jax.grad(loss))(state.params)
