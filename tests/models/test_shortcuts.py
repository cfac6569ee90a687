"""Each shortcut against its equation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from resnet_jax.models import BasicBlock, IllegalChoiceError, count_parameters
from resnet_jax.models.shortcuts import shortcut

X = jax.random.normal(jax.random.key(0), (2, 5, 7, 4))


def make(kind, out_channels=4, stride=1):
    return shortcut(kind, 4, out_channels, stride, rngs=nnx.Rngs(0))


def test_none_ignores_the_input():
    branch = jnp.ones((2, 3, 4, 8))
    np.testing.assert_array_equal(make("none", 8, 2)(X, branch), branch)


@pytest.mark.parametrize("kind", ["A", "B"])
def test_a_and_b_are_the_identity_where_shapes_stay(kind):
    module = make(kind)
    assert count_parameters(module) == 0
    np.testing.assert_array_equal(module(X, jnp.zeros_like(X)), X)
    np.testing.assert_allclose(module(X, 2 * X), 3 * X, rtol=1e-6)


def test_a_subsamples_and_pads_channels_without_parameters():
    module = make("A", 7, 2)
    skip = np.asarray(module(X, jnp.zeros((2, 3, 4, 7))))
    expected = np.zeros((2, 3, 4, 7), np.float32)
    expected[..., 1:5] = np.asarray(X)[:, ::2, ::2]
    np.testing.assert_array_equal(skip, expected)
    assert count_parameters(module) == 0


def test_a_cannot_drop_channels():
    with pytest.raises(IllegalChoiceError, match="B or C"):
        make("A", 2)


@pytest.mark.parametrize(
    ("kind", "out_channels", "stride"), [("B", 8, 2), ("C", 4, 1), ("C", 8, 2)]
)
def test_projection_is_a_normalised_matrix_product(kind, out_channels, stride):
    module = make(kind, out_channels, stride)
    weight = np.asarray(module.conv.kernel.get_value())[0, 0]
    projected = np.asarray(X)[:, ::stride, ::stride] @ weight
    expected = (projected - projected.mean((0, 1, 2))) / np.sqrt(projected.var((0, 1, 2)) + 1e-5)
    skip = module(X, jnp.zeros(projected.shape))
    np.testing.assert_allclose(skip, expected, atol=1e-4)


def test_block_is_relu_of_branch_joined_with_input():
    block = BasicBlock(4, 4, rngs=nnx.Rngs(0))
    block.eval()
    np.testing.assert_allclose(block(X), np.maximum(block.branch(X) + X, 0), atol=1e-5)
