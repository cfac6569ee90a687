"""When something is due that happens every so many steps; the interval need not be a whole number.

The k-th time is the step nearest to k intervals, so that `5 epochs` stays in step with the epochs.
"""

import math


def is_due(step: int, interval: float) -> bool:
    """Whether `step` is the nearest whole step to a positive multiple of `interval` (≥ 1)."""
    return step > 0 and round(round(step / interval) * interval) == step


def count_due(step: int, interval: float) -> int:
    """How many steps up to `step` are due."""
    times = math.floor(step / interval) + 1
    return times if round(times * interval) <= step else times - 1


def next_due(step: int, interval: float) -> int:
    """The first step behind `step` that is due."""
    times = math.floor(step / interval)
    return next(due for k in (times, times + 1, times + 2) if (due := round(k * interval)) > step)
