"""The tables of a report, once for all formats: results, comparisons, runs."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from resnet_jax.config import differences
from resnet_jax.report.axes import Axes, Value
from resnet_jax.report.comparisons import Comparison, signed
from resnet_jax.report.conditions import measured_on
from resnet_jax.report.confounded import Confounded
from resnet_jax.report.labels import duration, short_number
from resnet_jax.report.reference import Reference, recipe_differences
from resnet_jax.report.settings import ERRORS, Setting
from resnet_jax.report.statistics import Interval, Summary
from resnet_jax.report.study import Study


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: what is shown.
        key: what it is sorted by; None sorts last.
        best: shown in bold.
        note: index of a note below the table, from 1; 0: none.
    """

    text: str
    key: float | str | None = None
    best: bool = False
    note: int = 0


NOTHING = Cell("–")
OPTIONAL = ("95% interval (test)", "95% interval (training)", "literature (%)")


@dataclass(frozen=True)
class Table:
    """A table with notes.

    Attributes:
        columns: headings.
        numeric: whether a column is one of numbers, for its alignment.
        rows: cells, as many as columns.
        notes: numbered from 1.
    """

    columns: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()


def results_table(settings: Sequence[Setting], axes: Axes) -> Table:
    """A row per setting: axes, errors, how many runs are done, the literature, costs."""
    lowest = {split: _lowest(settings, split) for split in ERRORS}
    notes: dict[str, int] = {}
    rows = []
    for setting in settings:
        row = [_axis_cell(axis, value) for axis, value in setting.values.items()]
        summaries = {split: setting.summary(split) for split in ERRORS}
        for split, summary in summaries.items():
            row.append(mean_cell(summary, setting in lowest[split]))
            row.append(interval_cell(summary.interval if summary else None))
        row += [
            Cell(setting.states(), sum(run.state == "done" for run in setting.runs)),
            _literature_cell(setting, notes),
            *_cost_cells(setting),
        ]
        rows.append(row)
    names = (
        *(axis.label for axis in axes.axes),
        "test error (%)",
        "95% interval (test)",
        "training error (%)",
        "95% interval (training)",
        "runs done",
        "literature (%)",
        "parameters",
        "multiply-adds",
        "time",
    )
    numeric = (*(axis.is_numeric for axis in axes.axes), *[True] * 4, False, *[True] * 4)
    table = Table(names, numeric, tuple(tuple(row) for row in rows), tuple(notes))
    return _without_empty(table)


def _axis_cell(axis: Any, value: Value) -> Cell:
    key = value[0] if axis.is_numeric else float(axis.values.index(value))
    return Cell(axis.value_label(value), key)


def mean_cell(summary: Summary | None, best: bool = False) -> Cell:
    """`8.75 ± 0.16`."""
    if summary is None:
        return NOTHING
    return Cell(mean_text(summary), summary.mean, best)


def mean_text(summary: Summary) -> str:
    spread = "" if summary.std is None else f" ± {summary.std:.2f}"
    return f"{summary.mean:.2f}{spread}"


def interval_cell(interval: Interval | None) -> Cell:
    """`8.41 to 9.02`."""
    if interval is None:
        return NOTHING
    return Cell(f"{signed(interval.low)} to {signed(interval.high)}", interval.low)


def _lowest(settings: Sequence[Setting], split: str) -> list[Setting]:
    """The settings with the lowest mean error as it is printed, one or more per data set.

    An error of another evaluation, such as ten crops, is of another data set in this respect.
    """
    lowest: dict[tuple[Any, ...], float] = {}
    means = []
    for setting in settings:
        summary = setting.summary(split)
        if summary is None:
            continue
        mean = round(summary.mean, 2)
        means.append((setting, mean))
        place = measured_on(setting.conditions)
        lowest[place] = min(mean, lowest.get(place, mean))
    if len(means) < 2:
        return []
    return [s for s, mean in means if mean == lowest[measured_on(s.conditions)]]


def _literature_cell(setting: Setting, notes: dict[str, int]) -> Cell:
    """The first number found; its note has the source, other numbers, and what differs."""
    config = setting.runs[0].config
    found = setting.references
    if not found:
        return NOTHING
    first, *more = found
    note = f"{first.source} ({first.kind})"
    note += "".join(f"; {r.source}: {_error(r)} ({r.kind})" for r in more)
    in_row = [name for axis in setting.values for name in axis.fields]
    unlike = recipe_differences(config, first, in_row)
    note += f". Ours: {', '.join(unlike)}." if unlike else "."
    number = notes.setdefault(note, len(notes) + 1)
    return Cell(_error(first), 100.0 if first.error is None else first.error, note=number)


def _error(reference: Reference) -> str:
    return "fails" if reference.error is None else f"{reference.error:.2f}"


def _cost_cells(setting: Setting) -> list[Cell]:
    run = setting.runs[0]
    seconds = [r.seconds for r in setting.runs if r.state == "done" and r.seconds is not None]
    mean = sum(seconds) / len(seconds) if seconds else None
    return [
        Cell(short_number(run.parameters), run.parameters),
        Cell(short_number(run.macs), run.macs),
        Cell(duration(mean), mean),
    ]


def _without_empty(table: Table) -> Table:
    """Without intervals where no setting has any, and without literature where there is none."""
    # Without rows, where no run can be read, there are no columns of cells either.
    columns = list(zip(*table.rows, strict=True)) or [()] * len(table.columns)
    kept = [
        name not in OPTIONAL or any(cell.text != NOTHING.text for cell in cells)
        for name, cells in zip(table.columns, columns, strict=True)
    ]

    def cut(row: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(itertools.compress(row, kept))

    return Table(cut(table.columns), cut(table.numeric), tuple(map(cut, table.rows)), table.notes)


def comparisons_table(
    comparisons: Sequence[Comparison], confounded: Sequence[Confounded] = ()
) -> Table:
    """A row per comparison: who, by how much, intervals, p-values, verdict.

    Pairs that differ in more than one field follow, with the fields instead of numbers.
    """
    columns = (
        "error",
        "at",
        "compared",
        "against",
        "difference (points)",
        "pairs",
        "95% interval (t)",
        "95% interval (bootstrap)",
        "p",
        "p (Holm)",
        "verdict",
    )
    rows: list[tuple[Cell, ...]] = []
    for c in comparisons:
        baseline, other = c.names
        pair = c.paired
        difference = pair.difference if pair else None
        rows.append(
            (
                Cell(ERRORS[c.split], c.split),
                Cell(c.fixed or "–", c.fixed),
                Cell(other, other),
                Cell(baseline, baseline),
                _difference_cell(difference),
                Cell(str(difference.n) if difference else "0", difference.n if difference else 0),
                _reversed_cell(difference.interval if difference else None),
                _reversed_cell(pair.bootstrap if pair else None),
                _p_cell(pair.p_value if pair else None),
                _p_cell(c.adjusted),
                Cell(c.verdict, c.verdict),
            )
        )
    rows += [_confounded_row(c) for c in confounded]
    numeric = (False, False, False, False, True, True, True, True, True, True, False)
    return Table(columns, numeric, tuple(rows))


def _confounded_row(c: Confounded) -> tuple[Cell, ...]:
    baseline, other = c.names
    return (
        Cell("any", "any"),
        Cell(c.fixed or "–", c.fixed),
        Cell(other, other),
        Cell(baseline, baseline),
        *[NOTHING] * 6,
        Cell(c.verdict, c.verdict),
    )


def _difference_cell(difference: Summary | None) -> Cell:
    """The compared one minus the baseline, so that less than 0 is better."""
    if difference is None:
        return NOTHING
    mean = -difference.mean
    spread = "" if difference.std is None else f" ± {difference.std:.2f}"
    points = f"{mean:+.2f}".replace("-", "−") if round(mean, 2) else "0.00"
    return Cell(points + spread, mean)


def _reversed_cell(interval: Interval | None) -> Cell:
    return interval_cell(None if interval is None else Interval(-interval.high, -interval.low))


def _p_cell(p_value: float | None) -> Cell:
    if p_value is None:
        return NOTHING
    return Cell(f"{p_value:.3f}" if p_value >= 0.001 else "< 0.001", p_value)


def runs_table(study: Study) -> Table:
    """A row per run: state, how far, errors, what it changes, why it failed."""
    rows = []
    for run in study.runs:
        test, train = run.final_error("test"), run.final_error("train")
        changes = differences(dict(study.base), dict(run.config)) if run.config else []
        rows.append(
            (
                Cell(run.id, run.id),
                Cell(run.state, run.state),
                Cell(run.progress or "–", run.status.get("step")),
                Cell("–" if test is None else f"{test:.2f}", test),
                Cell("–" if train is None else f"{train:.2f}", train),
                Cell(duration(run.seconds), run.seconds),
                Cell("; ".join(changes) or "–", "; ".join(changes)),
                Cell(run.error or "–", run.error),
            )
        )
    columns = (
        "run",
        "state",
        "progress",
        "test error (%)",
        "training error (%)",
        "time",
        "differs from the base config by",
        "reason",
    )
    return Table(columns, (False, False, True, True, True, True, False, False), tuple(rows))
