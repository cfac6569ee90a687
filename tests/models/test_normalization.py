"""Batch normalisation against its definition and against Flax's."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import assume, given
from hypothesis import strategies as st

from resnet_jax.models import BatchNorm, DegenerateStatisticsError
from resnet_jax.models.normalization import norm_factory


@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 4), st.floats(0.0, 0.99))
def test_train_mode_is_the_definition(batch, size, channels, momentum):
    assume(batch * size * size > 1)
    x = np.random.default_rng(0).normal(2, 3, (batch, size, size, channels)).astype(np.float32)
    norm = BatchNorm(channels, momentum=momentum)
    y = norm(jnp.asarray(x))
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(var + 1e-5), atol=5e-3)
    count = batch * size * size
    unbiased = var * count / (count - 1)
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


# Many standard deviations from zero, float32 has few digits left for them.
FAR = [(3000, 1e-3), (-3000, 1e-3), (1e5, 1e-2)]


def pure(norm):
    """The norm as a function of its input alone, for transformations."""
    graphdef, state = nnx.split(norm)
    arrays = nnx.to_pure_dict(state)
    return lambda x: nnx.merge(graphdef, arrays)(x)


def noise_about(mean, shape=(16, 8, 8, 4), dtype=np.float32):
    return np.random.default_rng(0).normal(mean, 1, shape).astype(dtype)


@pytest.mark.parametrize("kind", ["batch", "group", "layer"])
@pytest.mark.parametrize(("mean", "tolerance"), FAR)
def test_the_variance_is_accurate_where_the_mean_is_far_larger(kind, mean, tolerance):
    x = noise_about(mean)
    groups = {"num_groups": 4} if kind == "group" else {}
    norm = norm_factory(kind, epsilon=1e-5, **groups)(4, rngs=nnx.Rngs(0))
    y = np.asarray(norm(jnp.asarray(x)), np.float64)
    axes = {"batch": (0, 1, 2), "group": (1, 2), "layer": (1, 2, 3)}[kind]
    np.testing.assert_allclose(y.std(axes), 1, atol=tolerance)
    if kind == "batch":
        expected = 0.9 + 0.1 * x.astype(np.float64).var(axes, ddof=1)
        np.testing.assert_allclose(norm.var.get_value(), expected, atol=0.1 * tolerance)


@given(
    st.sampled_from([(5, 3), (4, 1, 1, 2), (2, 3, 5, 4), (3, 4, 2), (2, 2, 3, 2, 3)]),
    st.floats(-1e4, 1e4),
    st.sampled_from(["float32", "bfloat16", "float16"]),
    st.integers(0, 2**31),
)
def test_statistics_are_those_of_float64(shape, mean, dtype, seed):
    rng = np.random.default_rng(seed)
    # A tenth of the entries of a channel, the centre perhaps, lie elsewhere.
    x = mean + rng.normal(size=shape) + 30 * (rng.random(shape) < 0.1)
    x = jnp.asarray(x, dtype)
    norm = BatchNorm(shape[-1], momentum=0.0)
    norm(x)
    flat = np.asarray(x, np.float64).reshape(-1, shape[-1])
    np.testing.assert_allclose(norm.mean.get_value(), flat.mean(0), rtol=1e-6, atol=1e-5)
    variance = flat.var(0, ddof=1)
    # The rounded mean is off by a few parts in 1e7; so is the variance by that times the deviation.
    error = 1e-5 * (1 + variance) + 1e-6 * abs(mean) * np.sqrt(variance * len(flat))
    assert (np.abs(norm.var.get_value() - variance) < error).all()


def test_derivatives_far_from_zero_are_those_of_float64(x64):
    x = noise_about(3000, (6, 3, 3, 2))
    direction = np.random.default_rng(1).normal(size=x.shape)

    def loss(x, dtype):
        return jnp.sum(jnp.sin(pure(BatchNorm(2))(x.astype(dtype))))

    def definition(x):
        mean = x.mean((0, 1, 2))
        return jnp.sum(jnp.sin((x - mean) / jnp.sqrt(jnp.square(x - mean).mean((0, 1, 2)) + 1e-5)))

    def both(function, x, direction):
        # The gradient, and a product with the Hessian.
        return jax.jit(lambda *a: jax.jvp(jax.grad(function), a[:1], a[1:]))(x, direction)

    truth = both(definition, x.astype(np.float64), direction)
    double = both(partial(loss, dtype=np.float64), x.astype(np.float64), direction)
    single = both(partial(loss, dtype=np.float32), x, direction.astype(np.float32))
    for exact, same, near in zip(truth, double, single, strict=True):
        np.testing.assert_allclose(same, exact, atol=1e-8)
        np.testing.assert_allclose(near, exact, atol=5e-3)


def test_statistics_over_an_axis_are_accurate_far_from_zero():
    # The halves of the batch lie far from each other too.
    x = noise_about(3000) + np.repeat([0, 50], 8)[:, None, None, None].astype(np.float32)
    spread = jax.vmap(pure(BatchNorm(4, axis_name="data")), axis_name="data")
    y = spread(jnp.asarray(x).reshape(2, 8, 8, 8, 4))
    x = x.astype(np.float64)
    expected = (x - x.mean((0, 1, 2))) / x.std((0, 1, 2))
    np.testing.assert_allclose(y.reshape(x.shape), expected, atol=2e-3)


def test_one_value_per_channel_is_refused_in_train_mode():
    with pytest.raises(DegenerateStatisticsError, match=r"\(1, 1, 1, 3\)"):
        BatchNorm(3)(jnp.ones((1, 1, 1, 3)))
    with pytest.raises(ValueError, match="one value per channel"):
        BatchNorm(3)(jnp.ones((1, 3)))
    assert BatchNorm(3, use_running_average=True)(jnp.ones((1, 3))).shape == (1, 3)
    assert BatchNorm(3, frozen=True)(jnp.ones((1, 3))).shape == (1, 3)


def test_the_values_of_all_devices_count():
    spread = jax.vmap(pure(BatchNorm(3, axis_name="data")), axis_name="data")
    assert spread(jnp.arange(6.0).reshape(2, 1, 3)).shape == (2, 1, 3)
    with pytest.raises(DegenerateStatisticsError):
        spread(jnp.ones((1, 1, 3)))


def test_groups_of_one_value_are_refused():
    group = norm_factory("group", num_groups=4)(4, rngs=nnx.Rngs(0))
    assert group(jnp.ones((1, 1, 2, 4))).shape == (1, 1, 2, 4)
    with pytest.raises(DegenerateStatisticsError, match="one value per group"):
        group(jnp.ones((5, 1, 1, 4)))
    assert norm_factory("layer")(4, rngs=nnx.Rngs(0))(jnp.ones((5, 1, 1, 4))).shape == (5, 1, 1, 4)
