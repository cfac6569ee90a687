"""Parts of the plots of errors: looks of lines, points with intervals, signs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes as Panel

from resnet_jax.plotting.style import SIGNS, Look, looks_of
from resnet_jax.report.axes import Axis
from resnet_jax.report.settings import Setting
from resnet_jax.report.statistics import Summary

INTERVALS = "bars: 95% intervals of the mean"
FAILED_CAPTION = " ×: all runs diverged or failed."


def looks(axis: Axis | None) -> list[Look]:
    """One look per value of an axis; one for no axis."""
    return looks_of(len(axis.values), axis.is_numeric) if axis else looks_of(1, ordered=False)


def error_bars(panel: Panel, x: Any, y: Any, look: Look, label: str, **bars: Any) -> None:
    """Means with their intervals.

    Args:
        panel: to draw on.
        x, y: of the points.
        look, label: of the line.
        **bars: `xerr` or `yerr`, lengths as `bars` gives them.
    """
    panel.errorbar(
        x,
        y,
        color=look.colour,
        marker=look.marker,
        ls=look.dash,
        ms=5.5,
        capsize=3,
        elinewidth=1.1,
        label=label or None,
        **bars,
    )


def bars(summaries: Sequence[Summary]) -> np.ndarray:
    """Lengths of error bars: float64[2, points]; 0 without an interval."""
    pairs = [
        (s.mean - s.interval.low, s.interval.high - s.mean) if s.interval else (0.0, 0.0)
        for s in summaries
    ]
    return np.array(pairs).T


def sign(panel: Panel, x: Any, y: Any, label: str, look: Look, **options: Any) -> None:
    """Draw one of `style.SIGNS` at x and y."""
    panel.plot(x, y, color=look.colour, label=label, **SIGNS[label], **options)


def literature(setting: Setting) -> float | None:
    """The published test error in percent; None: there is none, or it is a failure."""
    found = setting.references
    return found[0].error if found else None


def end_of_scale(points: Sequence[float], end: float) -> float:
    """Where a scale ends: intervals of two seeds can dwarf all differences, and may leave the panel.

    Args:
        points: values that must be seen.
        end: of the scale that shows all.
    """
    highest = max(points, default=0.0)
    return min(end, 2.5 * highest) if highest > 0 else end


def slug(axis: Axis) -> str:
    """A name for files: `shortcut_gate_bias`."""
    return "_".join(name.rpartition(".")[2] for name in axis.fields[:2])
