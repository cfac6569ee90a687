"""Batch normalisation against its definition and against Flax's."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from resnet_jax.models import BatchNorm


@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 4), st.floats(0.0, 0.99))
def test_train_mode_is_the_definition(batch, size, channels, momentum):
    x = np.random.default_rng(0).normal(2, 3, (batch, size, size, channels)).astype(np.float32)
    norm = BatchNorm(channels, momentum=momentum)
    y = norm(jnp.asarray(x))
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(var + 1e-5), atol=5e-3)
    count = batch * size * size
    unbiased = var * count / max(count - 1, 1)
    np.testing.assert_allclose(norm.mean.get_value(), (1 - momentum) * mean, rtol=1e-4, atol=1e-5)
    expected = momentum + (1 - momentum) * unbiased
    np.testing.assert_allclose(norm.var.get_value(), expected, rtol=1e-3, atol=1e-4)


def test_output_and_gradients_equal_flax():
    x = jax.random.normal(jax.random.key(0), (4, 5, 5, 3))

    def run(norm):
        graphdef, *states = nnx.split(norm, nnx.Param, ...)
        params, rest = (nnx.to_pure_dict(state) for state in states)

        def loss(params, x):
            return jnp.sum(jnp.sin(nnx.merge(graphdef, params, rest)(x)))

        return jax.value_and_grad(loss, (0, 1))(params, x)

    ours, flax = run(BatchNorm(3)), run(nnx.BatchNorm(3, momentum=0.9, rngs=nnx.Rngs(0)))
    np.testing.assert_allclose(ours[0], flax[0], rtol=1e-5)
    for name in ("scale", "bias"):
        np.testing.assert_allclose(ours[1][0][name], flax[1][0][name], atol=1e-4)
    np.testing.assert_allclose(ours[1][1], flax[1][1], atol=1e-4)


def test_eval_mode_uses_running_statistics():
    norm = BatchNorm(2, use_running_average=True)
    norm.mean.set_value(jnp.array([1.0, 2.0]))
    norm.var.set_value(jnp.array([4.0, 9.0]))
    norm.scale.set_value(jnp.array([2.0, 3.0]))
    norm.bias.set_value(jnp.array([0.5, 0.0]))
    np.testing.assert_allclose(norm(jnp.array([[3.0, 5.0]])), [[2.5, 3.0]], rtol=1e-5)


def test_axis_name_makes_statistics_global():
    x = (
        jax.random.normal(jax.random.key(0), (8, 4, 4, 3))
        * jnp.arange(1.0, 9.0)[:, None, None, None]
    )
    whole = BatchNorm(3)
    expected = whole(x)
    split = BatchNorm(3, axis_name="data")
    graphdef, state = nnx.split(split)
    state = nnx.to_pure_dict(state)

    def one_device(x):
        norm = nnx.merge(graphdef, state)
        return norm(x), nnx.to_pure_dict(nnx.state(norm, nnx.BatchStat))

    actual, stats = jax.vmap(one_device, axis_name="data")(x.reshape(4, 2, 4, 4, 3))
    np.testing.assert_allclose(actual.reshape(x.shape), expected, atol=1e-5)
    for device in range(4):
        np.testing.assert_allclose(stats["var"][device], whole.var.get_value(), rtol=1e-5)
