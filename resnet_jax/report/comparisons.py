"""What beats what: paired differences between settings that differ in one field, in words."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from resnet_jax.conditions import conditions_of
from resnet_jax.report.axes import DEPTH, Axes, Axis
from resnet_jax.report.conditions import NOT_COMPARED
from resnet_jax.report.run import Run
from resnet_jax.report.settings import ERRORS, Setting, count_states, describe
from resnet_jax.report.statistics import CONFIDENCE, Paired, holm, paired
from resnet_jax.run_states import UNFINISHED

DISTINGUISHABLE = "distinguishable"


@dataclass(frozen=True)
class Comparison:
    """One setting against another that differs from it in one field, and in no other condition.

    Attributes:
        split: `test` or `train`.
        axis: of that field alone.
        fixed: values of the other fields that the study varies, in words; empty where there is none.
        baseline, other: the settings.
        paired: baseline minus other, in points of error; None without a common seed.
        adjusted: p-value after Holm's correction over the comparisons of the split.
    """

    split: str
    axis: Axis
    fixed: str
    baseline: Setting
    other: Setting
    paired: Paired | None
    adjusted: float | None = None

    @property
    def verdict(self) -> str:
        """Whether the two are distinguishable, in a few words."""
        if self.paired is None:
            return "no pair of seeds is done in both"
        if self.paired.p_value is None or self.adjusted is None:
            return "no interval: one pair of seeds, or equal differences"
        if self.adjusted < 1 - CONFIDENCE:
            return DISTINGUISHABLE
        if self.paired.p_value < 1 - CONFIDENCE:
            return "the interval excludes 0, but not after the correction"
        return "not distinguishable"

    @property
    def waits(self) -> bool:
        """Whether a side has no run that is done, but may still get one."""
        sides = [s for s in (self.baseline, self.other) if not s.errors(self.split)]
        return any(run.state in UNFINISHED for setting in sides for run in setting.runs)

    @property
    def names(self) -> tuple[str, str]:
        """What baseline and other are called: their value of the field."""
        baseline, other = (self.axis.of(s.conditions) for s in (self.baseline, self.other))
        return describe(self.axis, baseline), describe(self.axis, other)

    def sentence(self) -> str:
        """`residual A beats plain by 0.40 ± 0.20 points …`"""
        baseline, other = self.names
        place = f"{self.fixed}: " if self.fixed else ""
        if self.paired is None:
            return f"{place}{other} against {baseline}: {self._missing()}."
        difference = self.paired.difference
        better, worse = (other, baseline) if difference.mean >= 0 else (baseline, other)
        spread = f" ± {difference.std:.2f}" if difference.std is not None else ""
        facts = f"n = {difference.n}"
        planned = self._planned_pairs()
        facts += f" of {planned}" if planned > difference.n else ""
        if difference.interval is not None:
            low, high = _towards(difference.mean, difference.interval)
            facts += f", 95% interval {signed(low)} to {signed(high)}"
        facts += self._software()
        points = f"{abs(difference.mean):.2f}{spread} points"
        error = ERRORS[self.split]
        if round(difference.mean, 2) == 0 and self.verdict != DISTINGUISHABLE:
            difference_text = f"difference{spread}, " if spread else ""
            same = f"the same mean {error} to two decimals ({difference_text}{facts})"
            return f"{place}{other} and {baseline} have {same}; {self.verdict}."
        if self.verdict == DISTINGUISHABLE:
            return (
                f"{place}{better} beats {worse} by {points} of {error} ({facts}); {self.verdict}."
            )
        return f"{place}{better} has {points} less {error} than {worse} ({facts}); {self.verdict}."

    def _software(self) -> str:
        """`; jax 0.10.2 against 0.11.2`: packages whose versions are others on the two sides."""
        sides = [software_versions(s.runs) for s in (self.other, self.baseline)]
        lines = [
            f"; {package} {', '.join(sides[0][package])} against {', '.join(sides[1][package])}"
            for package in sides[0]
            if package in sides[1] and sides[0][package] != sides[1][package]
        ]
        return "".join(lines)

    def _planned_pairs(self) -> int:
        seeds = [{run.seed for run in setting.runs} for setting in (self.baseline, self.other)]
        return len(seeds[0] & seeds[1])

    def _missing(self) -> str:
        parts = []
        for setting, name in zip((self.baseline, self.other), self.names, strict=True):
            if not setting.errors(self.split):
                states = ", ".join(
                    f"{n} {state}" for state, n in count_states(setting.runs).items()
                )
                parts.append(f"{name} has no run that is done ({states})")
        return "; ".join(parts) or "no seed is done in both"


def _towards(mean: float, interval: tuple[float, float]) -> tuple[float, float]:
    """The interval of how much the better one is better."""
    return interval if mean >= 0 else (-interval[1], -interval[0])


def signed(number: float) -> str:
    """−0.15 with a minus sign."""
    return f"{number:z.2f}".replace("-", "−")


def software_versions(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Package → its versions, in order, over the runs that are done."""
    found: dict[str, set[str]] = {}
    for run in runs:
        if run.state == "done":
            for package, version in dict(run.status.get("versions") or {}).items():
                found.setdefault(package, set()).add(str(version))
    return {package: sorted(versions) for package, versions in found.items()}


def compare(
    settings: Sequence[Setting], axes: Axes, base: Mapping[str, Any]
) -> tuple[Comparison, ...]:
    """Compare settings that differ in one field: each value of the field against one baseline.

    The baseline is the shallowest depth; elsewhere the value of the base config, or else the first
    one of the axis. Data sets are not compared with each other. Training errors are compared in
    depth studies, where they are the question.

    Args:
        settings: of the study.
        axes: of the study.
        base: config of the study: dotted field → value.
    """
    base = conditions_of(base)
    splits = ("train", "test") if axes.with_field(DEPTH) else ("test",)
    fields = [(a, name) for a in axes.axes for name in a.fields if name not in NOT_COMPARED]
    found = []
    for split in splits:
        of_split = [
            comparison
            for axis, name in fields
            for comparison in _along(axis, name, settings, base, split)
        ]
        found += _adjust(of_split)
    return tuple(found)


def _along(
    axis: Axis, name: str, settings: Sequence[Setting], base: Mapping[str, Any], split: str
) -> Iterator[Comparison]:
    groups: dict[frozenset[tuple[str, Any]], list[Setting]] = {}
    for setting in settings:
        others = frozenset((n, v) for n, v in setting.conditions.items() if n != name)
        groups.setdefault(others, []).append(setting)
    alone = axis.alone(name)
    for group in groups.values():
        baseline = find_baseline(alone, group, base)
        fixed = _fixed(baseline, name)
        for other in group:
            if other is not baseline:
                pairs = paired(baseline.errors(split), other.errors(split))
                yield Comparison(split, alone, fixed, baseline, other, pairs)


def find_baseline(axis: Axis, group: Sequence[Setting], base: Mapping[str, Any]) -> Setting:
    """The setting of a group that the others are compared with."""
    wanted = axis.values[0] if axis.fields == (DEPTH,) else axis.of(base)
    return next((s for s in group if axis.of(s.conditions) == wanted), group[0])


def _fixed(setting: Setting, name: str) -> str:
    """The values of all fields of the axes but one, in words."""
    parts = []
    for axis, value in setting.values.items():
        if name in axis.fields:
            axis = axis.without(name)
            value = axis.of(setting.conditions)
            if all(part is None for part in value):
                continue
        parts.append(describe(axis, value))
    return ", ".join(parts)


def _adjust(comparisons: Sequence[Comparison]) -> list[Comparison]:
    tested = [c for c in comparisons if c.paired is not None and c.paired.p_value is not None]
    adjusted = holm([c.paired.p_value for c in tested])  # type: ignore[union-attr,misc]
    found = dict(zip(map(id, tested), adjusted, strict=True))
    return [replace(c, adjusted=found.get(id(c))) for c in comparisons]
