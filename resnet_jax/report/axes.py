"""The axes of a study: which fields its runs vary, and which of them say the same twice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from resnet_jax.config import FIELDS
from resnet_jax.plotting.labels import VALUE_LABELS, field_label, value_label
from resnet_jax.report.conditions import DATA
from resnet_jax.report.run import Run
from resnet_jax.report.study import Study

DEPTH, LEARNING_RATE = "model.depth", "optimizer.learning_rate"
# These are never part of another axis, and never left out.
OWN_AXIS = (DATA, DEPTH, LEARNING_RATE)
Value = tuple[Any, ...]


@dataclass(frozen=True)
class Axis:
    """One question of a study.

    Attributes:
        fields: usually one; several where the study is not a full grid of them.
        values: a value of each field; ascending where they are numbers.
    """

    fields: tuple[str, ...]
    values: tuple[Value, ...]

    @property
    def label(self) -> str:
        return ", ".join(field_label(name) for name in self.fields)

    @property
    def is_numeric(self) -> bool:
        """Whether the values lie on a scale."""
        return all(len(value) == 1 and _is_number(value[0]) for value in self.values)

    @property
    def speaks_for_itself(self) -> bool:
        """Whether the values are understood without the field's name."""
        if len(self.fields) > 1:
            return True
        (name,) = self.fields
        labels = VALUE_LABELS.get(name, {})
        is_duration = name in FIELDS and FIELDS[name].kind == "duration"
        return not is_duration and all(isinstance(v, str) or v in labels for (v,) in self.values)

    def of(self, conditions: Mapping[str, Any]) -> Value:
        """The value under some conditions (dotted field → value)."""
        return tuple(conditions.get(name) for name in self.fields)

    def alone(self, name: str) -> "Axis":
        """The axis of one of the fields."""
        place = self.fields.index(name)
        return Axis((name,), tuple(dict.fromkeys((value[place],) for value in self.values)))

    def without(self, name: str) -> "Axis":
        """The axis of all fields but one; it may have none left."""
        kept = [place for place, field in enumerate(self.fields) if field != name]
        values = dict.fromkeys(tuple(value[place] for place in kept) for value in self.values)
        return Axis(tuple(self.fields[place] for place in kept), tuple(values))

    def value_label(self, value: Value) -> str:
        """`('exclusive_gating', -6.0)` → `exclusive gating, gate bias −6`."""
        parts = list(zip(self.fields, value, strict=True))
        named = [value_label(*parts[0])] if len(parts) == 1 or parts[0][1] is not None else []
        named += [
            f"{field_label(name)} {value_label(name, part)}"
            for name, part in parts[1:]
            if part is not None
        ]
        return ", ".join(named) or "default"


@dataclass(frozen=True)
class Axes:
    """What a study varies.

    Attributes:
        axes: without the seed; empty where all runs are replicates.
        tied: (field, axis field, {axis value: value}): fields that are a function of an axis.
    """

    axes: tuple[Axis, ...]
    tied: tuple[tuple[str, str, dict[Any, Any]], ...]

    def with_field(self, name: str) -> Axis | None:
        """The axis of one field alone."""
        return next((axis for axis in self.axes if axis.fields == (name,)), None)


def find_axes(study: Study) -> Axes:
    """The conditions that take several values, without those that another one determines.

    Fields that are not crossed with the rest (not every value was run with every value of the
    others) become one axis together; depth, data set and learning rate never do.
    """
    runs = [run for run in study.runs if run.config]
    names = [
        name
        for name in dict.fromkeys(
            [*study.fields, *(name for run in runs for name in run.conditions)]
        )
        if len({run.conditions.get(name) for run in runs}) > 1
    ]
    tied = [] if study.search else _tied(names, runs)
    free = [name for name in names if name not in {name for name, _, _ in tied}]
    crossed = [n for n in free if study.search or n in OWN_AXIS or _is_crossed(n, free, runs)]
    together = tuple(name for name in free if name not in crossed)
    groups: list[tuple[str, ...]] = [(name,) for name in free if name in crossed]
    if together:
        groups.insert([n in crossed for n in free].index(False), together)
    return Axes(tuple(_axis(group, runs) for group in groups), tuple(tied))


def _axis(names: tuple[str, ...], runs: Sequence[Run]) -> Axis:
    values = list(dict.fromkeys(tuple(run.conditions.get(n) for n in names) for run in runs))
    axis = Axis(names, tuple(values))
    if axis.is_numeric:
        return Axis(names, tuple(sorted(values)))
    # Of several fields, values that share the first one stand together.
    firsts = [value[0] for value in values]
    return Axis(names, tuple(sorted(values, key=lambda value: firsts.index(value[0]))))


def _tied(names: Sequence[str], runs: Sequence[Run]) -> list[tuple[str, str, dict[Any, Any]]]:
    tied: list[tuple[str, str, dict[Any, Any]]] = []
    for name in names:
        for other in names if name not in OWN_AXIS else ():
            if other == name or other in {field for field, _, _ in tied}:
                continue
            mapping = _function(other, name, runs)
            both_ways = mapping is not None and _function(name, other, runs) is not None
            # Of two that determine each other, one stays: one of OWN_AXIS, or else the first.
            if mapping is None or (both_ways and _rank(name, names) < _rank(other, names)):
                continue
            tied.append((name, other, mapping))
            break
    return tied


def _rank(name: str, names: Sequence[str]) -> tuple[bool, int]:
    return name not in OWN_AXIS, names.index(name)


def _function(argument: str, value: str, runs: Sequence[Run]) -> dict[Any, Any] | None:
    """{value of `argument`: value of `value`} where the one determines the other."""
    mapping: dict[Any, Any] = {}
    for run in runs:
        seen = mapping.setdefault(run.conditions.get(argument), run.conditions.get(value))
        if seen != run.conditions.get(value):
            return None
    return mapping


def _is_crossed(name: str, names: Sequence[str], runs: Sequence[Run]) -> bool:
    others = [other for other in names if other != name and other not in OWN_AXIS]
    if not others:
        return True
    rows = {
        (run.conditions.get(name), tuple(run.conditions.get(o) for o in others)) for run in runs
    }
    return len(rows) == len({a for a, _ in rows}) * len({b for _, b in rows})


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
