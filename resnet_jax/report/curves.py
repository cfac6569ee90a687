"""Error in the course of training: mean curves over seeds and their plots."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes as Panel
from matplotlib.lines import Line2D

from resnet_jax.plotting.labels import count
from resnet_jax.plotting.style import (
    Figure,
    Look,
    canvas_of,
    label_outer,
    looks_of,
    shared_legend,
)
from resnet_jax.report.axes import DATA, DEPTH, Axes, Axis
from resnet_jax.report.marks import looks
from resnet_jax.report.run import Run
from resnet_jax.report.settings import Setting, describe
from resnet_jax.report.split import outer_groups, panel_grid, seeds_text
from resnet_jax.report.study import Study

MOST_LINES = 8
MOST_PANELS = 16
MOST_POINTS = 300
CATEGORIES_IN_A_PANEL = 5


class MeanCurve(NamedTuple):
    """Mean over the seeds of a setting.

    Attributes:
        x: float64[points], steps or epochs where all of the seeds have a value; of many, some.
        mean, std: float64[points], in percent; std is 0 for one seed.
        n: seeds.
        finished: whether their runs are done.
    """

    x: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    n: int
    finished: bool


def mean_curve(setting: Setting, split: str, unit: str) -> MeanCurve | None:
    """Over the runs that are done; where none is, over those that have begun.

    Args:
        setting: its runs.
        split: `train` or `test`.
        unit: `step` or `epoch`.
    """
    done = [run for run in setting.runs if run.state == "done"]
    curves = [getattr(run, split) for run in done or setting.runs]
    curves = [curve for curve in curves if len(curve.step)]
    if not curves:
        return None
    steps = functools.reduce(np.intersect1d, [curve.step for curve in curves])
    if not len(steps):
        return None
    steps = steps[_drawn(len(steps))]
    errors = np.stack([curve.error[np.isin(curve.step, steps)] for curve in curves])
    first = curves[0]
    x = getattr(first, unit)[np.isin(first.step, steps)]
    std = errors.std(0, ddof=1) if len(errors) > 1 else np.zeros(len(x))
    return MeanCurve(x, errors.mean(0), std, len(errors), bool(done))


def _drawn(count: int) -> np.ndarray:
    """At most `MOST_POINTS` indices of `count`, the last one among them."""
    return np.unique(np.linspace(0, count - 1, min(count, MOST_POINTS)).round().astype(int))


def curve_figures(study: Study, settings: Sequence[Setting], axes: Axes) -> list[Figure]:
    """Train (dashed) and test (solid) error; one line per depth, one panel per other choice.

    The plot of He et al. 2015, Fig. 6, where depth is an axis.
    """
    unit = time_unit(study.runs)
    data = axes.with_field(DATA)
    others = [axis for axis in axes.axes if axis is not data]
    lines = _line_axis(axes, others)
    panels = next((axis for axis in others if axis is not lines), None)
    if panels and len(panels.values) * (len(data.values) if data else 1) > MOST_PANELS:
        return _draw(settings, data, None, None, unit, "curves", "")
    figures: list[Figure] = []
    used = [axis for axis in (data, lines, panels) if axis]
    for i, (label, group) in enumerate(outer_groups(settings, used)):
        name = "curves" if i == 0 else f"curves_{i + 1}"
        figures += _draw(group, data, panels, lines, unit, name, label)
    return figures


def time_unit(runs: Sequence[Run]) -> str:
    """`step` where all durations are in steps, else `epoch`."""
    durations = [run.config.get("train.duration") for run in runs if run.config]
    in_steps = all(isinstance(d, int) or "step" in str(d) for d in durations)
    return "step" if in_steps else "epoch"


def _line_axis(axes: Axes, others: Sequence[Axis]) -> Axis | None:
    if not others:
        return None
    axis = axes.with_field(DEPTH) or next((a for a in reversed(others) if a.is_numeric), others[-1])
    # Many lines without an order get a panel each.
    many = not axis.is_numeric and len(axis.values) > CATEGORIES_IN_A_PANEL
    return None if many and len(others) == 1 else axis


def _draw(
    settings: Sequence[Setting],
    data: Axis | None,
    panel_axis: Axis | None,
    line_axis: Axis | None,
    unit: str,
    name: str,
    outer: str,
) -> list[Figure]:
    grid = panel_grid(settings, data, panel_axis)
    canvas, panels = canvas_of(len(grid), max(len(row) for row in grid))
    left_out = 0
    drawn: dict[Panel, list[MeanCurve]] = {}
    places: dict[Panel, object] = {}
    for row, cells in zip(panels, grid, strict=True):
        for panel, (title, members) in zip(row, cells, strict=False):
            shown = _best(members)
            left_out += len(members) - len(shown)
            curves = _panel(panel, shown, line_axis, unit)
            if curves:
                drawn[panel] = curves
                places[panel] = members[0].values[data] if data else None
            panel.set_title(title)
    if not drawn:
        return []
    for panel, curves in drawn.items():
        same = [curves for other, curves in drawn.items() if places[other] == places[panel]]
        unfinished = not any(curve.finished for curve in curves)
        panel.set_ylim(0, 100.0 if unfinished else _limit(same))
        panel.set_xlim(left=0)
    label_outer(panels, unit, "error (%)")
    _add_key(list(drawn)[-1])
    shared_legend(canvas, list(drawn))
    ns = [curve.n for curves in drawn.values() for curve in curves]
    return [Figure(name, _caption(outer, ns, left_out, list(drawn)), canvas)]


def _best(settings: Sequence[Setting]) -> Sequence[Setting]:
    if len(settings) <= MOST_LINES:
        return settings
    finished = [(s.summary("test"), s) for s in settings]
    ranked = sorted(
        ((summary.mean, i) for i, (summary, _) in enumerate(finished) if summary is not None)
    )
    return [settings[i] for i in sorted(i for _, i in ranked[:MOST_LINES])]


def _panel(
    panel: Panel, settings: Sequence[Setting], line_axis: Axis | None, unit: str
) -> list[MeanCurve]:
    """Draw the curves of some settings; returns them."""
    drawn = []
    for setting, (label, look) in zip(settings, _labels(settings, line_axis), strict=True):
        for split in ("train", "test"):
            curve = mean_curve(setting, split, unit)
            if curve is not None:
                _line(panel, curve, split, look, label)
                drawn.append(curve)
    return drawn


def _labels(settings: Sequence[Setting], line_axis: Axis | None) -> list[tuple[str, Look]]:
    if line_axis is not None:
        of_value = dict(zip(line_axis.values, looks(line_axis), strict=True))
        values = [setting.values[line_axis] for setting in settings]
        return [(describe(line_axis, value), of_value[value]) for value in values]
    labels = [setting.label if len(settings) > 1 else "" for setting in settings]
    return list(zip(labels, looks_of(len(settings), ordered=False), strict=True))


def _limit(rows: Sequence[Sequence[MeanCurve]]) -> float:
    """Where the vertical axis ends: the first steps are near chance and would hide the rest."""
    ends = [curve.mean[-1] + curve.std[-1] for row in rows for curve in row if curve.finished]
    if not ends:
        return 100.0
    return float(min(100.0, max(1.0, 1.2 * max(ends), 2.5 * np.median(ends))))


def _line(panel: Panel, curve: MeanCurve, split: str, look: Look, label: str) -> None:
    colour = look.colour
    if split == "train":
        panel.plot(curve.x, curve.mean, color=colour, ls=(0, (4, 2)), lw=1.0, zorder=2)
    else:
        every = max(1, len(curve.x) // 6)
        panel.plot(
            curve.x,
            curve.mean,
            color=colour,
            marker=look.marker,
            markevery=(every - 1, every),
            ms=4.5,
            label=label or None,
            zorder=3,
        )
    if curve.n > 1:
        low, high = curve.mean - curve.std, curve.mean + curve.std
        panel.fill_between(curve.x, low, high, color=colour, alpha=0.15, lw=0)


def _add_key(panel: Panel) -> None:
    panel.add_line(Line2D([], [], color="0.35", ls="-", lw=1.6, label="test"))
    panel.add_line(Line2D([], [], color="0.35", ls=(0, (4, 2)), lw=1.0, label="train"))


def _caption(outer: str, ns: Sequence[int], left_out: int, panels: Sequence[Panel]) -> str:
    parts = [
        f"{outer + ': ' if outer else ''}Error in the course of training. Solid: test; dashed: "
        "training, the mean of mini-batches as they were trained (augmented).",
        f"Lines are means over {seeds_text(ns)}"
        + ("; bands are ± one standard deviation over seeds." if max(ns) > 1 else "."),
    ]
    if any(panel.get_ylim()[1] < 100 for panel in panels):
        parts.append("The vertical axes leave out the beginning.")
    if left_out:
        parts.append(f"{count(left_out, 'setting')} with higher or no final error not drawn.")
    return " ".join(parts)
