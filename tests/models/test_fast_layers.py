"""Layers that are stated for speed equal the plain statements, derivatives too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from resnet_jax.models import BatchNorm
from resnet_jax.models.activation import choosing_relu
from resnet_jax.models.pooling import max_pool

# Few different values, so that many are equal.
LEVELS = st.integers(-2, 2).map(float)
IMAGES = st.sampled_from([(2, 5, 4, 1), (1, 1, 7, 2), (1, 6, 6, 2)]).flatmap(
    lambda shape: hnp.arrays(np.float32, shape, elements=LEVELS)
)


def plain_max_pool(x, stride, zero_padding):
    if not zero_padding:
        return nnx.max_pool(x, (3, 3), (stride, stride), ((1, 1), (1, 1)))
    return nnx.max_pool(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), (3, 3), (stride, stride))


@settings(max_examples=10)
@given(IMAGES, st.integers(1, 2), st.booleans())
def test_max_pool_and_its_derivatives(x, stride, zero_padding):
    """XLA's own gradient gives all to the first of equal pixels too."""
    expected, plain = jax.vjp(lambda x: plain_max_pool(x, stride, zero_padding), x)
    actual, vjp = jax.vjp(lambda x: max_pool(x, stride, zero_padding), x)
    np.testing.assert_array_equal(actual, expected)
    rng = np.random.default_rng(0)
    cotangent = rng.standard_normal(expected.shape, np.float32)
    np.testing.assert_allclose(vjp(cotangent)[0], plain(cotangent)[0], atol=1e-5)
    tangent = rng.standard_normal(x.shape, np.float32)
    _, forward = jax.jvp(lambda x: max_pool(x, stride, zero_padding), (x,), (tangent,))
    np.testing.assert_allclose(
        np.vdot(forward, cotangent), np.vdot(tangent, plain(cotangent)[0]), atol=1e-3
    )


@settings(max_examples=10)
@given(IMAGES, st.integers(1, 2))
def test_the_gradient_of_max_pool_in_bfloat16_is_rounded_once(x, stride):
    exact, plain = jax.vjp(lambda x: plain_max_pool(x, stride, False), x)
    cotangent = np.random.default_rng(0).standard_normal(exact.shape).astype(jnp.bfloat16)
    _, vjp = jax.vjp(lambda x: max_pool(x, stride), x.astype(jnp.bfloat16))
    expected = plain(cotangent.astype(np.float32))[0].astype(jnp.bfloat16)
    np.testing.assert_array_equal(vjp(cotangent)[0], expected)


@given(hnp.arrays(np.float32, 20, elements=st.floats(-3, 3, width=32) | st.just(np.nan)))
def test_relu_and_its_derivatives(x):
    np.testing.assert_array_equal(choosing_relu(x), jax.nn.relu(x))
    np.testing.assert_array_equal(np.signbit(choosing_relu(x)), np.signbit(jax.nn.relu(x)))
    slopes = [jax.vmap(jax.grad(function))(x) for function in (choosing_relu, jax.nn.relu)]
    np.testing.assert_array_equal(*slopes)
    _, tangent = jax.jvp(choosing_relu, (x,), (x,))
    np.testing.assert_array_equal(tangent, jax.jvp(jax.nn.relu, (x,), (x,))[1])


@pytest.mark.parametrize("mean", [0.0, 30.0])
def test_batch_norm_far_from_zero_is_near_to_double_precision(mean):
    x = mean + np.random.default_rng(0).standard_normal((64, 4)).astype(np.float32)
    exact = np.asarray(x, np.float64)
    exact = (exact - exact.mean(0)) / np.sqrt(exact.var(0) + 1e-5)
    np.testing.assert_allclose(BatchNorm(4)(jnp.asarray(x)), exact, atol=2e-6 * (1 + mean**2))
