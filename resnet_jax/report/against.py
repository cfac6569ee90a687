"""Final error against a number: depth, learning rate, …"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes as Panel

from resnet_jax.plotting.scales import number_axis
from resnet_jax.plotting.style import (
    MARKERS,
    Figure,
    Look,
    canvas_of,
    label_outer,
    shared_legend,
)
from resnet_jax.report.axes import LEARNING_RATE, Axis, Value
from resnet_jax.report.marks import (
    FAILED_CAPTION,
    INTERVALS,
    bars,
    end_of_scale,
    error_bars,
    literature,
    looks,
    sign,
    slug,
)
from resnet_jax.report.settings import ERRORS, Setting, all_failed
from resnet_jax.report.split import panel_grid, seeds_text


def against(
    settings: Sequence[Setting], data: Axis | None, axis: Axis, hue: Axis | None, outer: str
) -> list[Figure]:
    """Final training and test error against a number.

    A line joins settings of a value of `hue` that differ in the axis alone.
    """
    grid = panel_grid(settings, data, None)
    cells = [cell for row in grid for cell in row]
    canvas, panels = canvas_of(len(cells), 2)
    ns: list[int] = []
    for row, (title, members) in zip(panels, cells, strict=True):
        for panel, split in zip(row, ("train", "test"), strict=True):
            ns += _lines(panel, members, axis, hue, split)
            _scale(panel, axis)
            panel.set_title(" · ".join(part for part in (title, ERRORS[split]) if part))
    if not ns:
        return []
    label_outer(panels, axis.label, "final error (%)")
    shared_legend(canvas, list(panels.flat))
    caption = (
        f"{outer + ': ' if outer else ''}Final error against {axis.label}. "
        f"Points: means over {seeds_text(ns)}; {INTERVALS}; "
        "the training error is the mean over the last epoch."
    )
    lines = [joined(members, axis) for _, members in cells]
    if any(len(of_panel) > 1 and min(map(len, of_panel)) == 1 for of_panel in lines):
        caption += f" Points that are not joined differ in more than {axis.label}."
    labels = {label for panel in panels.flat for label in panel.get_legend_handles_labels()[1]}
    if "all failed" in labels:
        caption += FAILED_CAPTION
    if axis.fields == (LEARNING_RATE,) and any(len(line) > 1 for own in lines for line in own):
        caption += " Ringed: the lowest mean test error of a line."
    return [Figure(f"error_by_{slug(axis)}", caption, canvas)]


def _lines(
    panel: Panel, settings: Sequence[Setting], axis: Axis, hue: Axis | None, split: str
) -> list[int]:
    ns: list[int] = []
    of_hue = _of_hue(settings, hue)
    for row, ((value, members), look) in enumerate(zip(of_hue.items(), looks(hue), strict=True)):
        label = hue.value_label(value) if hue and value is not None else ""
        label = f"{hue.label} {label}" if hue and hue.is_numeric else label
        for line in joined(members, axis):
            own = look if len(line) > 1 else replace(look, dash="")
            ns += _line(panel, line, axis, own, label, split)
        _mark_failures(panel, members, axis, look, row)
        if split == "test":
            _mark_literature(panel, members, axis, look)
    return ns


def _of_hue(settings: Sequence[Setting], hue: Axis | None) -> dict[Value | None, list[Setting]]:
    """Value of the hue → the settings that have it."""
    if hue is None:
        return {None: list(settings)}
    return {value: [s for s in settings if s.values[hue] == value] for value in hue.values}


def joined(settings: Sequence[Setting], axis: Axis) -> list[list[Setting]]:
    """Those that differ in the field of the axis alone, and so may be joined."""
    lines: dict[frozenset[tuple[str, Any]], list[Setting]] = {}
    for setting in settings:
        others = frozenset((n, v) for n, v in setting.conditions.items() if n not in axis.fields)
        lines.setdefault(others, []).append(setting)
    return list(lines.values())


def _line(
    panel: Panel, settings: Sequence[Setting], axis: Axis, look: Look, label: str, split: str
) -> list[int]:
    points = [(s.values[axis][0], s.summary(split)) for s in settings]
    done = [(x, summary) for x, summary in points if summary is not None]
    if not done:
        return []
    x = [x for x, _ in done]
    means = [summary.mean for _, summary in done]
    error_bars(panel, x, means, look, label, yerr=bars([summary for _, summary in done]))
    if axis.fields == (LEARNING_RATE,) and split == "test" and len(done) > 1:
        best = int(np.argmin(means))
        panel.plot(x[best], means[best], "o", ms=13, mfc="none", mec=look.colour, mew=1.4)
    return [summary.n for _, summary in done]


def _mark_failures(
    panel: Panel, settings: Sequence[Setting], axis: Axis, look: Look, row: int
) -> None:
    x = [s.values[axis][0] for s in settings if all_failed(s)]
    if x:
        y = [0.95 - 0.07 * row] * len(x)
        transform = panel.get_xaxis_transform()
        sign(panel, x, y, "all failed", look, transform=transform)


def _mark_literature(panel: Panel, settings: Sequence[Setting], axis: Axis, look: Look) -> None:
    found = [(s.values[axis][0], literature(s)) for s in settings]
    points = [(x, error) for x, error in found if error is not None]
    if points:
        sign(panel, [x for x, _ in points], [error for _, error in points], "literature", look)


def _scale(panel: Panel, axis: Axis) -> None:
    number_axis(panel, [value[0] for value in axis.values])
    lines = [line for line in panel.lines if str(line.get_marker()) in MARKERS]
    heights = [y for line in lines for y in np.asarray(line.get_ydata(), float).tolist()]
    panel.set_ylim(0, end_of_scale(heights, panel.get_ylim()[1]))
