"""Intervals and paired comparisons against scipy and against numbers worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from resnet_jax.report.statistics import bootstrap_interval, holm, paired, summarize

ERRORS = st.floats(0, 100, allow_nan=False).map(lambda x: round(x, 4))


def test_mean_deviation_and_interval_by_hand():
    summary = summarize([1.0, 2.0, 3.0])
    # t with 2 degrees of freedom at 97.5% is 4.3027 in every table.
    half = 4.30265 / math.sqrt(3)
    assert summary.n == 3
    assert (summary.mean, summary.std) == (2.0, 1.0)
    assert summary.interval == pytest.approx((2 - half, 2 + half), abs=1e-4)


def test_one_value_and_none():
    assert summarize([]) is None
    assert summarize([4.2]) == (1, 4.2, None, None)
    assert summarize([4.2, 4.2]).interval is None


@given(st.lists(ERRORS, min_size=2, max_size=8))
def test_interval_is_that_of_scipys_t_test(values):
    interval = summarize(values).interval
    if np.ptp(values) < 1e-6:
        return
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert interval == pytest.approx(tuple(expected))


@given(st.lists(st.tuples(ERRORS, ERRORS), min_size=2, max_size=8))
def test_paired_is_scipys_paired_t_test(pairs):
    first, second = ({seed: pair[i] for seed, pair in enumerate(pairs)} for i in (0, 1))
    result = paired(first, second)
    if np.ptp([a - b for a, b in pairs]) < 1e-6:
        assert result.p_value is None
        return
    expected = stats.ttest_rel(list(first.values()), list(second.values()))
    assert result.p_value == pytest.approx(expected.pvalue)
    assert result.difference.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_pairs_are_made_by_seed_and_only_of_common_seeds():
    result = paired({0: 5.0, 1: 6.0, 2: 7.0}, {2: 4.0, 1: 5.0, 9: 100.0})
    assert result.difference.n == 2
    assert result.difference.mean == pytest.approx((3 + 1) / 2)
    assert paired({0: 1.0}, {1: 1.0}) is None


def test_pairing_removes_what_seeds_share():
    """Seeds vary by tens, the difference by hundredths: unpaired, nothing could be seen."""
    rng = np.random.default_rng(3)
    seeds = {seed: 10.0 * seed for seed in range(5)}
    first = {seed: error + 1 + 0.01 * rng.standard_normal() for seed, error in seeds.items()}
    result = paired(first, seeds)
    assert result.p_value < 1e-6
    assert stats.ttest_ind(list(first.values()), list(seeds.values())).pvalue > 0.5


@given(st.lists(ERRORS, min_size=3, max_size=8))
def test_bootstrap_interval_stays_among_the_values(values):
    interval = bootstrap_interval(np.array(values))
    if interval is None:
        assert np.ptp(values) < 1e-3 or len(values) == 3
        return
    assert min(values) - 1e-9 <= interval.low <= interval.high <= max(values) + 1e-9


def test_bootstrap_interval_of_many_values_is_the_normal_one():
    values = np.random.default_rng(0).normal(5.0, 2.0, 400)
    normal = stats.norm.interval(0.95, values.mean(), stats.sem(values))
    assert bootstrap_interval(values) == pytest.approx(normal, abs=0.02)
    assert bootstrap_interval(values) == bootstrap_interval(values)


def test_holm_by_hand():
    # Sorted: 0.005 × 4, 0.01 × 3, 0.03 × 2, 0.04 × 1, and none below the one before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.7, 0.8]) == [1.0, 1.0]


@pytest.mark.parametrize("values", [[3.0], [3.0, 3.0], [3.0, 3.0 + 4e-6, 3.0 - 4e-6]])
def test_without_variance_nothing_is_certain(values):
    """float32 rounds errors by up to 6e-6 points: a t-test of that alone gives p = 1e-12."""
    first = dict(enumerate(values))
    result = paired(first, dict.fromkeys(first, 1.0))
    assert result.difference.mean == pytest.approx(2.0)
    assert (result.p_value, result.bootstrap, result.difference.interval) == (None, None, None)
    assert bootstrap_interval(np.array(values)) is None


def test_what_is_not_finite_enters_no_mean():
    for number in (math.nan, math.inf, None):
        with pytest.raises(ValueError, match="not finite"):
            summarize([1.0, number])
