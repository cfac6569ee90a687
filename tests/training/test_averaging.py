"""Averaged weights against sums written out by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.training.steps import averaging_rate


def average(values, decay, warmup=False, every=1):
    """The average after each step, from 0."""
    current, averages = 0.0, []
    for step, value in enumerate(values):
        rate = float(averaging_rate(jnp.int32(step), decay, warmup, every))
        current += rate * (value - current)
        averages.append(current)
    return np.array(averages)


VALUES = np.random.default_rng(0).standard_normal(40)


def test_it_is_the_geometrically_weighted_sum():
    decay, last = 0.9, len(VALUES) - 1
    weights = (1 - decay) * decay ** (last - np.arange(len(VALUES)))
    assert average(VALUES, decay)[-1] == pytest.approx(weights @ VALUES, rel=1e-5)


def test_warmup_takes_the_lower_decay():
    """TensorFlow: min(decay, (1 + t) / (10 + t)), which reaches 0.8 at t = 35."""
    decays = [min(0.8, (1 + t) / (10 + t)) for t in range(len(VALUES))]
    expected = 0.0
    for value, decay in zip(VALUES, decays, strict=True):
        expected = decay * expected + (1 - decay) * value
    assert decays[0] == 0.1
    assert decays[34] < decays[35] == 0.8
    assert average(VALUES, 0.8, warmup=True)[-1] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("warmup", [False, True])
def test_every_so_many_steps_it_is_the_average_of_those_values(warmup):
    averages = average(VALUES, 0.7, warmup, every=8)
    rare = average(VALUES[7::8], 0.7, warmup)
    np.testing.assert_allclose(averages[7::8], rare, rtol=1e-5)
    assert np.all(averages[:7] == 0)
    np.testing.assert_array_equal(averages[8:15], np.full(7, averages[7]))
