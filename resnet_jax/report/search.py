"""The plots of a search: a trial is a point, as hardly two of them share a value."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes as Panel
from matplotlib.ticker import MaxNLocator

from resnet_jax.plotting.scales import category_axis, log_ticks, number_axis, spans_a_decade
from resnet_jax.plotting.style import Figure, Look, canvas_of, label_outer, looks_of, shared_legend
from resnet_jax.report.axes import Axes, Axis
from resnet_jax.report.curves import time_unit
from resnet_jax.report.marks import sign
from resnet_jax.report.run import Run
from resnet_jax.report.split import MOST_COLUMNS
from resnet_jax.run_states import FAILED

# So many trials have a colour.
MOST_COLOURED = 3
OTHERS = Look("0.6", ".", "")
COLOURED = "The best trials have the same colours in all figures of the search."


class Best(NamedTuple):
    """One of the best trials: its error in a legend, and how it is drawn."""

    label: str
    look: Look


def search_figures(runs: Sequence[Run], axes: Axes) -> list[Figure]:
    """Final error against each searched field, the lowest so far, and all curves.

    Args:
        runs: the trials, in the order in which they were suggested.
        axes: the searched fields.
    """
    trials = [run for run in runs if len(run.test.step) or run.state in FAILED]
    best = _best(trials)
    figures = [_by_field(trials, axes.axes, best)] if best and axes.axes else []
    if best:
        figures.append(_lowest_so_far(trials, best))
    if any(len(run.test.step) for run in trials):
        figures.append(_curves(trials, best))
    return figures


def _best(trials: Sequence[Run]) -> dict[str, Best]:
    """Id → how it is drawn, of the trials with the lowest final error; the lowest first."""
    errors = {run.id: error for run in trials if (error := run.final_error("test")) is not None}
    names = sorted(errors, key=lambda name: errors[name])[:MOST_COLOURED]
    ranks = [f"no. {rank}" if rank > 1 else "best" for rank in range(1, len(names) + 1)]
    labels = [f"{rank}: {errors[name]:.2f}%" for rank, name in zip(ranks, names, strict=True)]
    shades = looks_of(len(names), ordered=False)
    return dict(zip(names, map(Best, labels, shades), strict=True))


def _by_field(trials: Sequence[Run], fields: Sequence[Axis], best: dict[str, Best]) -> Figure:
    columns = min(len(fields), MOST_COLUMNS)
    canvas, panels = canvas_of(-(-len(fields) // columns), columns, sharey=True)
    for panel, field in zip(panels.flat, fields, strict=False):
        values = [field.of(run.config) for run in trials]
        places = [v[0] if field.is_numeric else field.values.index(v) for v in values]
        _points(panel, places, trials, best)
        if field.is_numeric:
            number_axis(panel, [value[0] for value in field.values])
        else:
            category_axis(panel, [field.value_label(value) for value in field.values])
    _error_scale(panels.flat[0], trials)
    label_outer(panels, "", "final test error (%)")
    for panel, field in zip(panels.flat, fields, strict=False):
        panel.set_xlabel(field.label)
    shared_legend(canvas, list(panels.flat))
    caption = (
        "Final test error against each searched field. Ringed: the trial with the lowest. Trials differ "
        f"in all of these fields at once, so a point shows no effect of one of them. {COLOURED}"
    )
    return Figure("search", caption + _signs(trials), canvas)


def _lowest_so_far(trials: Sequence[Run], best: dict[str, Best]) -> Figure:
    canvas, panels = canvas_of(1, 1)
    panel = panels[0, 0]
    numbers = list(range(1, len(trials) + 1))
    errors = [run.final_error("test") for run in trials]
    lowest = np.fmin.accumulate([np.nan if error is None else error for error in errors])
    panel.step(numbers, lowest, where="post", color="0.2", label="lowest so far")
    _points(panel, numbers, trials, best)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _error_scale(panel, trials)
    label_outer(panels, "trials", "final test error (%)")
    shared_legend(canvas, [panel])
    caption = (
        "Lowest final test error after so many trials, in the order of their suggestion. As it was "
        f"chosen on these images, it promises too much. {COLOURED}"
    )
    return Figure("lowest_so_far", caption + _signs(trials), canvas)


def _curves(trials: Sequence[Run], best: dict[str, Best]) -> Figure:
    unit = time_unit(trials)
    canvas, panels = canvas_of(1, 1)
    panel = panels[0, 0]
    curves = {run.id: (getattr(run.test, unit), run.test.error) for run in trials}
    for curve in curves.values():
        panel.plot(*curve, color=OTHERS.colour, lw=0.7, alpha=0.8)
    for name, (label, look) in best.items():
        panel.plot(*curves[name], color=look.colour, marker=look.marker, ms=4, label=label)
    panel.set_xlim(left=0)
    _error_scale(panel, trials)
    label_outer(panels, unit, "test error (%)")
    shared_legend(canvas, [panel])
    caption = f"Test error of every trial in the course of its training. {COLOURED}"
    return Figure("curves", caption, canvas)


def _points(
    panel: Panel, places: Sequence[float], trials: Sequence[Run], best: dict[str, Best]
) -> None:
    """A point per trial that is done, and signs for those that were stopped or failed."""
    for place, run in zip(places, trials, strict=True):
        if run.state == "done" and len(run.test.step):
            panel.plot(place, run.test.error[-1], "o", color=OTHERS.colour, ms=4)
        elif run.state == "stopped" and len(run.test.step):
            sign(panel, place, run.test.error[-1], "stopped early", OTHERS)
        elif run.state in FAILED:
            top = panel.get_xaxis_transform()
            sign(panel, place, 0.97, "diverged or failed", OTHERS, transform=top)
    ids = [run.id for run in trials]
    for rank, (name, (label, look)) in enumerate(best.items()):
        place, error = places[ids.index(name)], trials[ids.index(name)].test.error[-1]
        panel.plot(place, error, look.marker, color=look.colour, ms=6, label=label, zorder=4)
        if rank == 0:
            panel.plot(place, error, "o", ms=13, mfc="none", mec=look.colour, mew=1.4)


def _error_scale(panel: Panel, trials: Sequence[Run]) -> None:
    """Logarithmic where the errors span a decade: else the good trials would lie on each other."""
    errors = [float(run.test.error[-1]) for run in trials if len(run.test.step)]
    if spans_a_decade(errors):
        panel.set_yscale("log")
        log_ticks(panel.yaxis, errors)
    else:
        panel.set_ylim(bottom=0)


def _signs(trials: Sequence[Run]) -> str:
    text = ""
    if any(run.state == "stopped" for run in trials):
        text += " ×: stopped early, at its last test error."
    if any(run.state in FAILED for run in trials):
        text += " △: diverged or failed, at no error."
    return text
