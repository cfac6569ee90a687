"""Which settings go into which figure, row and panel."""

from collections.abc import Sequence

from resnet_jax.report.axes import Axis, Value
from resnet_jax.report.settings import Setting, describe

MOST_COLUMNS = 4
Cell = tuple[str, list[Setting]]


def outer_groups(settings: Sequence[Setting], used: Sequence[Axis]) -> list[Cell]:
    """Settings by the values of the axes that a figure does not show: (label, settings) each."""
    groups: dict[tuple[tuple[Axis, Value], ...], list[Setting]] = {}
    for setting in settings:
        rest = tuple((a, v) for a, v in setting.values.items() if a not in used)
        groups.setdefault(rest, []).append(setting)
    return [(", ".join(describe(*pair) for pair in rest), group) for rest, group in groups.items()]


def panel_grid(
    settings: Sequence[Setting], data: Axis | None, panels: Axis | None
) -> list[list[Cell]]:
    """Rows of panels, (title, settings) each: a new row for every data set, four at most."""
    rows = []
    for data_label, of_data in _by(settings, data):
        cells = [
            (" · ".join(part for part in (data_label, label) if part), members)
            for label, members in _by(of_data, panels)
        ]
        rows += [cells[i : i + MOST_COLUMNS] for i in range(0, len(cells), MOST_COLUMNS)]
    if panels is None:
        cells = [cell for row in rows for cell in row]
        rows = [cells[i : i + MOST_COLUMNS] for i in range(0, len(cells), MOST_COLUMNS)]
    return rows


def _by(settings: Sequence[Setting], axis: Axis | None) -> list[Cell]:
    if axis is None:
        return [("", list(settings))]
    groups = [
        (describe(axis, value), [s for s in settings if s.values[axis] == value])
        for value in axis.values
    ]
    return [(label, members) for label, members in groups if members]


def seeds_text(ns: Sequence[int]) -> str:
    """`n = 3 seeds`, `n = 2 to 3 seeds` or `one seed`."""
    low, high = min(ns), max(ns)
    if high == 1:
        return "one seed"
    return f"n = {high} seeds" if low == high else f"n = {low} to {high} seeds"
