"""Intervals of means and paired differences over seeds.

Student's t, because it covers what it should at the few seeds that studies have; the bootstrap
does not (docs/report.md has the measured coverage of both).
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 9999
# Points of error. Values this close are equal: one image in a million is 0.0001, and float32 rounds an
# error by up to 0.000006. A t-test of rounding alone would be certain of anything.
ROUNDING = 2e-5


class Interval(NamedTuple):
    """A confidence interval of a mean, in the unit of the values."""

    low: float
    high: float


class Summary(NamedTuple):
    """Mean over seeds.

    Attributes:
        n: values.
        mean: their mean.
        std: sample standard deviation (n − 1); None for one value.
        interval: 95%, of the mean; None where the values do not vary or are fewer than two.
    """

    n: int
    mean: float
    std: float | None
    interval: Interval | None


class Paired(NamedTuple):
    """Mean difference of two settings over the seeds that both have.

    Attributes:
        difference: of the pairs, first minus second.
        bootstrap: 95% BCa interval; None for fewer than 3 pairs.
        p_value: two-sided paired t-test; None without an interval: one pair, or equal differences.
    """

    difference: Summary
    bootstrap: Interval | None
    p_value: float | None


def summarize(values: Sequence[float]) -> Summary | None:
    """Mean, standard deviation and interval; None without values.

    Raises:
        ValueError: a value is not finite; a mean over the others would be one over other seeds.
    """
    if not len(values):
        return None
    array = np.asarray(values, float)
    if not np.isfinite(array).all():
        raise ValueError(f"not finite: {array.tolist()}")
    std = float(array.std(ddof=1)) if len(array) > 1 else None
    return Summary(len(array), float(array.mean()), std, mean_interval(array))


def mean_interval(values: np.ndarray) -> Interval | None:
    """95% interval of the mean by Student's t; None for one value, or where they do not vary."""
    if len(values) < 2 or np.ptp(values) <= ROUNDING:
        return None
    low, high = stats.t.interval(
        CONFIDENCE, len(values) - 1, loc=values.mean(), scale=stats.sem(values)
    )
    return Interval(float(low), float(high))


def bootstrap_interval(values: np.ndarray) -> Interval | None:
    """95% BCa bootstrap interval of the mean (Efron 1987), from the same resamples every time."""
    if len(values) < 3 or np.ptp(values) <= ROUNDING:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        result = stats.bootstrap(
            (values,),
            np.mean,
            confidence_level=CONFIDENCE,
            n_resamples=RESAMPLES,
            method="BCa",
            rng=np.random.default_rng(0),
        )
    low, high = result.confidence_interval
    return Interval(float(low), float(high)) if np.isfinite([low, high]).all() else None


def paired(first: Mapping[object, float], second: Mapping[object, float]) -> Paired | None:
    """Compare two settings over the seeds that both have; None without any.

    Args:
        first, second: seed → value.
    """
    seeds = [seed for seed in first if seed in second]
    differences = np.array([first[seed] - second[seed] for seed in seeds], float)
    summary = summarize(differences.tolist())
    if summary is None:
        return None
    if summary.interval is None:
        return Paired(summary, None, None)
    p_value = float(stats.ttest_1samp(differences, 0.0).pvalue)
    return Paired(summary, bootstrap_interval(differences), p_value)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number by Holm 1979: step-down Bonferroni."""
    order = np.argsort(p_values)
    adjusted, largest = np.empty(len(p_values)), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted.tolist()
