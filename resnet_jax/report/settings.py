"""Settings: the runs that differ in their seed alone, and what came of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from resnet_jax.report.axes import Axes, Axis, Value
from resnet_jax.report.reference import Reference, find_references
from resnet_jax.report.run import Run
from resnet_jax.report.statistics import Interval, Summary, summarize
from resnet_jax.report.study import Study
from resnet_jax.run_states import FAILED, UNFINISHED

# Split → what the error on it is called.
ERRORS = {"test": "test error", "train": "training error"}


@dataclass(frozen=True)
class Setting:
    """One combination of the values of the axes.

    Attributes:
        values: axis → value.
        runs: its seeds, planned ones too; they agree in all conditions.
    """

    values: dict[Axis, Value]
    runs: tuple[Run, ...]

    @property
    def conditions(self) -> Mapping[str, Any]:
        """What its runs agree in."""
        return self.runs[0].conditions

    @property
    def label(self) -> str:
        """`depth 20, plain`; empty in a study without axes."""
        return ", ".join(describe(axis, value) for axis, value in self.values.items())

    @property
    def references(self) -> list[Reference]:
        """The published numbers of its network on its data, tested as they were."""
        run = next((run for run in self.runs if run.data or run.examples), self.runs[0])
        examples = {"eval_examples": run.examples} if run.examples else {}
        return find_references(run.config, examples | dict(run.data))

    def errors(self, split: str) -> dict[Any, float]:
        """Seed → final error in percent of the runs that are done."""
        found = {run.seed: run.final_error(split) for run in self.runs}
        return {seed: error for seed, error in found.items() if error is not None}

    def summary(self, split: str) -> Summary | None:
        """Final error in percent over the seeds that are done; its interval lies in 0 to 100."""
        summary = summarize(list(self.errors(split).values()))
        if summary is None or summary.interval is None:
            return summary
        low, high = summary.interval
        return summary._replace(interval=Interval(max(0.0, low), min(100.0, high)))

    def states(self) -> str:
        """`3 of 3`, or `1 of 3 (1 diverged, 1 running)`."""
        done = sum(run.state == "done" for run in self.runs)
        others = count_states([run for run in self.runs if run.state != "done"])
        text = f"{done} of {len(self.runs)}"
        return text + (
            f" ({', '.join(f'{n} {state}' for state, n in others.items())})" if others else ""
        )

    def with_others(self, axis: Axis) -> tuple[tuple[Axis, Value], ...]:
        """The values of all axes but one: what a comparison along that axis holds fixed."""
        return tuple((a, v) for a, v in self.values.items() if a != axis)


def describe(axis: Axis, value: Value) -> str:
    """`depth 20`; of a choice among words the value alone: `residual A`."""
    label = axis.value_label(value)
    return label if axis.speaks_for_itself else f"{axis.label} {label}"


def make_settings(study: Study, axes: Axes) -> tuple[Setting, ...]:
    """Group the runs that agree in all conditions; in the order of the axes' values."""
    groups: dict[frozenset[tuple[str, Any]], list[Run]] = {}
    for run in study.runs:
        if run.config:
            groups.setdefault(frozenset(run.conditions.items()), []).append(run)
    settings = [
        Setting({axis: axis.of(runs[0].conditions) for axis in axes.axes}, tuple(runs))
        for runs in groups.values()
    ]

    def position(setting: Setting) -> list[int]:
        return [axis.values.index(value) for axis, value in setting.values.items()]

    return tuple(sorted(settings, key=position))


def all_failed(setting: Setting) -> bool:
    """Whether every run diverged or failed."""
    return all(run.state in FAILED for run in setting.runs)


def count_states(runs: Sequence[Run]) -> dict[str, int]:
    """State → number of runs, in the order of the text."""
    order = ("done", *UNFINISHED, "stopped", *FAILED)
    states = [run.state for run in runs]
    return {
        state: states.count(state) for state in dict.fromkeys([*order, *states]) if state in states
    }
