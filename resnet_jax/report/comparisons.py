"""What beats what: paired differences along every axis, in words."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from resnet_jax.report.axes import DATA, DEPTH, Axes, Axis, Value
from resnet_jax.report.settings import ERRORS, UNFINISHED, Setting, count_states, describe
from resnet_jax.report.statistics import CONFIDENCE, Paired, holm, paired

DISTINGUISHABLE = "distinguishable"


@dataclass(frozen=True)
class Comparison:
    """One setting against another that differs along one axis alone.

    Attributes:
        split: `test` or `train`.
        axis: along which they differ.
        fixed: values of the other axes, in words; empty where there is no other.
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
        """Whether the two can be told apart, in a few words."""
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
        """What baseline and other are called: their value of the axis."""
        values = (self.baseline.values[self.axis], self.other.values[self.axis])
        return describe(self.axis, values[0]), describe(self.axis, values[1])

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
        points = f"{abs(difference.mean):.2f}{spread} points"
        error = ERRORS[self.split]
        if round(difference.mean, 2) == 0 and self.verdict != DISTINGUISHABLE:
            same = f"the same mean {error} to two decimals (difference{spread}, {facts})"
            return f"{place}{other} and {baseline} have {same}; {self.verdict}."
        if self.verdict == DISTINGUISHABLE:
            return (
                f"{place}{better} beats {worse} by {points} of {error} ({facts}); {self.verdict}."
            )
        return f"{place}{better} has {points} less {error} than {worse} ({facts}); {self.verdict}."

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


def compare(
    settings: Sequence[Setting], axes: Axes, base: Mapping[str, Any]
) -> tuple[Comparison, ...]:
    """Every value of an axis against one baseline, with all else equal.

    The baseline is the shallowest depth; elsewhere the value of the base config, or else the first
    one of the axis. Data sets are not compared with each other. Training errors are compared in
    depth studies, where they are the question.
    """
    splits = ("train", "test") if axes.with_field(DEPTH) else ("test",)
    found = []
    for split in splits:
        of_split = [
            comparison
            for axis in axes.axes
            if axis.fields != (DATA,)
            for comparison in _along(axis, settings, base, split)
        ]
        found += _adjust(of_split)
    return tuple(found)


def _along(
    axis: Axis, settings: Sequence[Setting], base: Mapping[str, Any], split: str
) -> Iterator[Comparison]:
    groups: dict[tuple[tuple[Axis, Value], ...], list[Setting]] = {}
    for setting in settings:
        groups.setdefault(setting.with_others(axis), []).append(setting)
    preferred = axis.values[0] if axis.fields == (DEPTH,) else axis.of(base)
    for others, group in groups.items():
        baseline = next((s for s in group if s.values[axis] == preferred), group[0])
        fixed = ", ".join(describe(a, v) for a, v in others)
        for other in group:
            if other is not baseline:
                pairs = paired(baseline.errors(split), other.errors(split))
                yield Comparison(split, axis, fixed, baseline, other, pairs)


def _adjust(comparisons: Sequence[Comparison]) -> list[Comparison]:
    tested = [c for c in comparisons if c.paired is not None and c.paired.p_value is not None]
    adjusted = holm([c.paired.p_value for c in tested])  # type: ignore[union-attr,misc]
    found = dict(zip(map(id, tested), adjusted, strict=True))
    return [replace(c, adjusted=found.get(id(c))) for c in comparisons]
