"""The baseline in plain Flax is the same network as ours: its speed can be compared."""

import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from flax import nnx

from resnet_jax import models

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import plain_flax


@pytest.mark.parametrize(("name", "size"), [("resnet20", 32), ("resnet18", 224), ("resnet50", 224)])
def test_parameters_and_multiply_adds_are_ours(name, size):
    ours = nnx.eval_shape(lambda: models.create(name, rngs=nnx.Rngs(0)))
    fields, num_classes = models.ZOO[name].fields, ours.head.out_features
    build = partial(plain_flax.ResNet, fields["family"], fields["depth"], num_classes)
    plain = nnx.eval_shape(lambda: build(rngs=nnx.Rngs(0)))
    assert models.count_parameters(plain) == models.count_parameters(ours)
    shape = (size, size, 3)
    assert models.count_macs(plain, shape) == models.count_macs(ours, shape)


def with_arrays(build, draw):
    """A module whose arrays are `draw(name, shape)`, which is faster than to initialise it."""
    graph, state = nnx.split(nnx.eval_shape(lambda: build(rngs=nnx.Rngs(0))))
    arrays = jax.tree.map_with_path(
        lambda path, leaf: draw(path[-1].key, leaf.shape).astype(leaf.dtype),
        nnx.to_pure_dict(state),
    )
    return nnx.merge(graph, arrays)


def make_pair(family, depth):
    """Our network and the plain one with equal weights, and a batch."""
    rng = np.random.default_rng(0)

    def draw(name, shape):
        if name == "kernel":
            return rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape)
        return rng.uniform(0.5, 1.5, shape)

    ours = with_arrays(partial(models.resnet, family, depth, num_classes=10), draw)
    build = partial(plain_flax.ResNet, family, depth, 10)
    plain = with_arrays(build, lambda name, shape: np.zeros(shape))
    plain_flax.copy_weights(ours, plain)
    return ours, plain, rng.standard_normal((8, 32, 32, 3), np.float32), rng.integers(0, 10, 8)


@nnx.jit
def loss(model, images, labels):
    return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()


def test_the_step_begins_with_our_loss_and_lowers_it():
    ours, plain, *batch = make_pair("cifar", 8)
    ours.train()
    plain.train()
    optimizer = nnx.Optimizer(plain, optax.sgd(0.05), wrt=nnx.Param)
    losses = [plain_flax.train_step(plain, optimizer, *batch) for _ in range(3)]
    np.testing.assert_allclose(losses[0], loss(ours, *batch), rtol=1e-5)
    assert losses[2] < losses[0]


def test_evaluation_gives_our_loss():
    ours, plain, *batch = make_pair("imagenet", 18)
    ours.eval()
    plain.eval()
    np.testing.assert_allclose(plain_flax.eval_step(plain, *batch), loss(ours, *batch), rtol=1e-5)
