"""Settings that one would like to compare, but that differ in more than one field."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from resnet_jax.conditions import conditions_of
from resnet_jax.config import FIELDS
from resnet_jax.plotting.labels import enumerate_words, field_label, value_label
from resnet_jax.report.axes import Axes, Axis, Value
from resnet_jax.report.comparisons import Comparison, find_baseline
from resnet_jax.report.conditions import (
    DATA,
    NOT_COMPARED,
    STEPS,
    Difference,
    differences,
)
from resnet_jax.report.settings import Setting, describe


@dataclass(frozen=True)
class Confounded:
    """Two settings of which no report can say what makes the difference.

    Attributes:
        axis: along which they were to be compared.
        fixed: values of the other axes that both have, in words.
        baseline, other: the settings.
        fields: the conditions in which they differ, two or more.
    """

    axis: Axis
    fixed: str
    baseline: Setting
    other: Setting
    fields: tuple[Difference, ...]

    @property
    def names(self) -> tuple[str, str]:
        """What baseline and other are called: their value of the axis."""
        values = self.baseline.values[self.axis], self.other.values[self.axis]
        return describe(self.axis, values[0]), describe(self.axis, values[1])

    @property
    def is_across_data(self) -> bool:
        """Whether they were trained on different data sets."""
        return any(name == DATA for name, _, _ in self.fields)

    @property
    def verdict(self) -> str:
        """`no verdict, as they differ in depth (20, 8) and shortcut (residual A, plain)`."""
        parts = [
            f"{field_label(name)} ({_label(name, other)}, {_label(name, baseline)})"
            for name, baseline, other in self.fields
        ]
        return f"no verdict, as they differ in {enumerate_words(parts)}"

    def sentence(self) -> str:
        """`depth 20 against depth 8: no verdict, as they differ in …`."""
        baseline, other = self.names
        place = f"{self.fixed}: " if self.fixed else ""
        return f"{place}{other} against {baseline}: {self.verdict}."


def _label(name: str, value: Any) -> str:
    # A field of another version, which this one does not know.
    unknown = name not in FIELDS and name != STEPS
    return "not set" if value is None and unknown else value_label(name, value)


def find_confounded(
    settings: Sequence[Setting],
    axes: Axes,
    base: Mapping[str, Any],
    comparisons: Sequence[Comparison],
) -> tuple[Confounded, ...]:
    """The pairs along each axis that differ in more than one field.

    First those that agree in all other axes; then, for each setting that is in no pair along the axis,
    the pair with a setting of the baseline's value that differs in the fewest fields.

    Args:
        settings, axes, base: as of `compare`.
        comparisons: of settings that differ in one field.
    """
    base = conditions_of(base)
    pairs: list[Confounded] = []
    for axis in axes.axes:
        if set(axis.fields) <= set(NOT_COMPARED):
            continue
        along = list(_along(axis, settings, base))
        sides = [(pair.baseline, pair.other) for pair in along]
        sides += [(c.baseline, c.other) for c in comparisons if c.axis.fields[0] in axis.fields]
        covered = {id(setting) for pair in sides for setting in pair}
        pairs += [*along, *_nearest(axis, settings, base, covered)]
    unique: dict[frozenset[int], Confounded] = {}
    for pair in pairs:
        unique.setdefault(frozenset((id(pair.baseline), id(pair.other))), pair)
    return tuple(unique.values())


def _along(
    axis: Axis, settings: Sequence[Setting], base: Mapping[str, Any]
) -> Iterator[Confounded]:
    """Pairs that agree in all other axes."""
    groups: dict[tuple[tuple[Axis, Value], ...], list[Setting]] = {}
    for setting in settings:
        groups.setdefault(setting.with_others(axis), []).append(setting)
    for group in groups.values():
        baseline = find_baseline(axis, group, base)
        for other in group:
            pair = _pair(axis, baseline, other)
            if len(pair.fields) > 1:
                yield pair


def _nearest(
    axis: Axis, settings: Sequence[Setting], base: Mapping[str, Any], covered: set[int]
) -> Iterator[Confounded]:
    """For each setting that is not covered, its pair with the baseline's value that differs least."""
    value = find_baseline(axis, settings, base).values[axis]
    starts = [setting for setting in settings if setting.values[axis] == value]
    for end in settings:
        if end.values[axis] != value and id(end) not in covered:
            pairs = [_pair(axis, start, end) for start in starts]
            yield min(pairs, key=lambda pair: (pair.is_across_data, len(pair.fields)))


def _pair(axis: Axis, baseline: Setting, other: Setting) -> Confounded:
    both = [
        describe(a, value)
        for a, value in baseline.values.items()
        if a != axis and other.values[a] == value
    ]
    fields = differences(baseline.conditions, other.conditions)
    return Confounded(axis, ", ".join(both), baseline, other, tuple(fields))
