"""Scales and ticks of axes of numbers."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes as Panel
from matplotlib.axis import Axis as Side
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

# Inches: of a panel between its first and last value, of a digit, and between two labels.
WIDTH, DIGIT, SPACE = 2.2, 0.09, 0.05


def spans_a_decade(values: Sequence[float]) -> bool:
    """Whether values are better shown by their logarithms; 0.7 is a decade above 0.07."""
    return min(values) > 0 and max(values) > 9.99 * min(values)


def log_ticks(side: Side, values: Sequence[float]) -> None:
    """A few plain numbers as ticks of a logarithmic axis.

    Args:
        side: axis of a panel.
        values: shown on it; they span a decade or more.
    """
    decades = np.log10(max(values) / min(values))
    side.set_major_locator(LogLocator(subs=(1, 3) if decades < 2 else (1,)))
    side.set_major_formatter(FuncFormatter(lambda number, _: f"{number:g}"))
    side.set_minor_locator(NullLocator())


def number_axis(panel: Panel, values: Sequence[float]) -> None:
    """A horizontal axis of numbers, with a tick at each where the labels have room, else at a few.

    Args:
        panel: to draw on.
        values: ascending.
    """
    logarithmic = spans_a_decade(values)
    panel.set_xscale("log" if logarithmic else "linear")
    labels = [f"{value:g}" for value in values]
    places = np.log10(values) if logarithmic else np.asarray(values, float)
    gaps = np.diff(places) / np.ptp(places) * WIDTH
    lengths = np.array([len(label) for label in labels]) * DIGIT
    if (gaps >= (lengths[:-1] + lengths[1:]) / 2 + SPACE).all():
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_xticks(values, labels)
    elif logarithmic:
        log_ticks(panel.xaxis, values)
    else:
        panel.xaxis.set_major_locator(MaxNLocator(4))


def size_axis(panel: Panel, sizes: np.ndarray) -> None:
    """A vertical axis of sizes: logarithmic where they span a decade, else from 0.

    With negative numbers among them, the axis does not change.
    """
    sizes = sizes[np.isfinite(sizes)]
    positive = sizes[sizes > 0].tolist()
    if len(positive) < len(sizes[sizes != 0]):
        return
    if positive and spans_a_decade(positive):
        panel.set_yscale("log")
        log_ticks(panel.yaxis, positive)
    else:
        panel.set_ylim(bottom=0)


def count_axis(panel: Panel) -> None:
    """A horizontal axis that counts: its ticks are whole numbers."""
    panel.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))


def category_axis(panel: Panel, labels: Sequence[str]) -> None:
    """A tick for each of 0, 1, …; aslant where the labels have no room side by side."""
    panel.set_xticks(range(len(labels)), labels)
    panel.set_xlim(-0.5, len(labels) - 0.5)
    if max(map(len, labels)) * DIGIT + SPACE > WIDTH / len(labels):
        for label in panel.get_xticklabels():
            label.set(rotation=30, ha="right", rotation_mode="anchor")
