"""Final error against a number: depth, learning rate, …"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes as Panel

from resnet_jax.report.axes import LEARNING_RATE, Axis
from resnet_jax.report.marks import (
    FAILED_CAPTION,
    INTERVALS,
    bars,
    end_of_scale,
    error_bars,
    literature,
    sign,
    slug,
)
from resnet_jax.report.scales import number_axis
from resnet_jax.report.settings import ERRORS, Setting, all_failed
from resnet_jax.report.split import panel_grid, seeds_text
from resnet_jax.report.style import (
    MARKERS,
    Figure,
    Look,
    canvas_of,
    label_outer,
    looks,
    shared_legend,
)


def against(
    settings: Sequence[Setting], data: Axis | None, axis: Axis, hue: Axis | None, outer: str
) -> list[Figure]:
    """Final training and test error against a number.

    A line joins the settings of a value of `hue`; settings that differ in more are points.
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
    labels = {label for panel in panels.flat for label in panel.get_legend_handles_labels()[1]}
    if "all failed" in labels:
        caption += FAILED_CAPTION
    if axis.fields == (LEARNING_RATE,):
        caption += " Ringed: the lowest mean test error of a line."
    return [Figure(f"error_by_{slug(axis)}", caption, canvas)]


def _lines(
    panel: Panel, settings: Sequence[Setting], axis: Axis, hue: Axis | None, split: str
) -> list[int]:
    ns: list[int] = []
    values = hue.values if hue else (None,)
    for row, (value, look) in enumerate(zip(values, looks(hue), strict=True)):
        members = [s for s in settings if hue is None or s.values[hue] == value]
        points = [(s.values[axis][0], s.summary(split)) for s in members]
        done = [(x, summary) for x, summary in points if summary is not None]
        look = look if _is_line(members, axis) else replace(look, dash="")
        label = hue.value_label(value) if hue and value is not None else ""
        label = f"{hue.label} {label}" if hue and hue.is_numeric else label
        if done:
            x = [x for x, _ in done]
            means = [summary.mean for _, summary in done]
            lengths = bars([summary for _, summary in done])
            error_bars(panel, x, means, look, label, yerr=lengths)
            ns += [summary.n for _, summary in done]
            if axis.fields == (LEARNING_RATE,) and split == "test":
                best = int(np.argmin(means))
                panel.plot(x[best], means[best], "o", ms=13, mfc="none", mec=look.colour, mew=1.4)
        _mark_failures(panel, members, axis, look, row)
        if split == "test":
            _mark_literature(panel, members, axis, look)
    return ns


def _is_line(settings: Sequence[Setting], axis: Axis) -> bool:
    """Whether settings differ along one axis alone."""
    fixed = {tuple(v for a, v in s.values.items() if a != axis) for s in settings}
    return len(fixed) == 1


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
