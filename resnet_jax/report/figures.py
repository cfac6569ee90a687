"""Which plots a study gets."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from resnet_jax.plotting.labels import value_label
from resnet_jax.plotting.style import Figure
from resnet_jax.report.against import against
from resnet_jax.report.axes import DEPTH, LEARNING_RATE, Axes, Axis
from resnet_jax.report.categories import categories
from resnet_jax.report.conditions import DATA, measured_on
from resnet_jax.report.curves import curve_figures
from resnet_jax.report.heat_map import heat_map
from resnet_jax.report.run import Run
from resnet_jax.report.search import search_figures
from resnet_jax.report.settings import Setting
from resnet_jax.report.split import outer_groups
from resnet_jax.report.study import Study

MOST_LINES = 8


def figures_of(study: Study, settings: Sequence[Setting], axes: Axes) -> list[Figure]:
    """Curves and final errors; of a search, its own figures."""
    if study.search:
        return _named_apart(list(_figures_of_searches(study.runs, axes)))
    return [*curve_figures(study, settings, axes), *_result_figures(settings, axes)]


def _figures_of_searches(runs: Sequence[Run], axes: Axes) -> Iterator[Figure]:
    """Those of the trials on each data set, evaluated in the same way: other errors do not compare."""
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(measured_on(run.conditions), []).append(run)
    for (data, *_), trials in groups.items():
        place = f"{value_label(DATA, data)}: " if len(groups) > 1 else ""
        for figure in search_figures(trials, axes):
            yield replace(figure, caption=place + figure.caption)


def _result_figures(settings: Sequence[Setting], axes: Axes) -> list[Figure]:
    data = axes.with_field(DATA)
    others = [axis for axis in axes.axes if axis is not data]
    figures = []
    for axis in others:
        draw = against if _on_a_scale(axis) else categories
        rest = [a for a in others if a is not axis]
        if draw is categories and any(map(_on_a_scale, rest)) and len(axis.values) < 3:
            continue
        # Of axes with many values, all settings become points of one plot.
        crowded = any(len(a.values) > MOST_LINES for a in rest)
        hue = None if crowded else next(iter(rest), None)
        used = axes.axes if crowded else [a for a in (data, axis, hue) if a]
        for label, group in outer_groups(settings, used):
            figures += draw(group, data, axis, hue, label)
    for first, second in itertools.combinations(others, 2):
        used = [a for a in (data, first, second) if a]
        for label, group in outer_groups(settings, used):
            if _fills(group, first, second):
                figures += heat_map(group, data, first, second, label)
    return _named_apart(figures)


def _fills(settings: Sequence[Setting], first: Axis, second: Axis) -> bool:
    """Whether two axes have three values or more each, most of them in combination."""
    sizes = len(first.values), len(second.values)
    pairs = {(setting.values[first], setting.values[second]) for setting in settings}
    return min(sizes) >= 3 and len(pairs) > sizes[0] * sizes[1] / 2


def _named_apart(figures: Sequence[Figure]) -> list[Figure]:
    seen: dict[str, int] = {}
    named = []
    for figure in figures:
        seen[figure.name] = number = seen.get(figure.name, 0) + 1
        name = figure.name if number == 1 else f"{figure.name}_{number}"
        named.append(replace(figure, name=name))
    return named


def _on_a_scale(axis: Axis) -> bool:
    always = axis.fields in ((DEPTH,), (LEARNING_RATE,))
    return axis.is_numeric and (always or len(axis.values) >= 3)
