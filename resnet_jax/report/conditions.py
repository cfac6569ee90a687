"""The conditions of a run: everything that can change its numbers, except the seed.

Two runs may be averaged if they agree in all conditions, and compared if they differ in exactly one.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from resnet_jax.config import FIELDS, canonical, to_steps
from resnet_jax.errors import UserError
from resnet_jax.report.data_versions import data_versions
from resnet_jax.report.run import Run
from resnet_jax.training.run_directory import PROTOCOL

Conditions = Mapping[str, Any]
# (name, value of the first, value of the second)
Difference = tuple[str, Any, Any]

REPLICATE = "seed"
DATA = "data.name"
STEPS = "steps trained"
# Data sets are not compared, and a run that was trained for other steps than it should is no result of a
# study.
NOT_COMPARED = (DATA, STEPS)
_STEPS_FROM = (DATA, "data.train_split", "data.repeats", "train.duration", "train.batch_size")


def counts(name: str) -> bool:
    """Whether a config field can change the numbers of a run."""
    return name != REPLICATE and not (name in FIELDS and FIELDS[name].runtime_only)


def conditions_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted field → value, each value spelled in one way.

    Fields that an earlier version did not have get their defaults, as when such a run is resumed.
    """
    complete = {name: field.default for name, field in FIELDS.items()} | dict(config)
    return {name: _spelled(name, value) for name, value in complete.items() if counts(name)}


def _spelled(name: str, value: Any) -> Any:
    """The one spelling of a value; an illegal one, and one of an unknown field, stays as it is."""
    if name not in FIELDS:
        return value
    try:
        return canonical(name, value)
    except UserError:
        return value


def differences(first: Conditions, second: Conditions) -> list[Difference]:
    """The conditions that are not the same; one that only one side has is None on the other."""
    names = dict.fromkeys([*first, *second])
    pairs = ((name, first.get(name), second.get(name)) for name in names)
    return [pair for pair in pairs if pair[1] != pair[2]]


def measured_on(conditions: Conditions) -> tuple[Any, ...]:
    """The data set and how it is evaluated; errors of other ones are not comparable."""
    return tuple(conditions.get(name) for name in (DATA, "data.eval_split", *PROTOCOL))


def with_conditions(runs: Sequence[Run]) -> list[Run]:
    """The runs with their conditions: those of the config, and what data and steps really were.

    A data set that was not the same in all runs, by data.json, becomes several. A run that was trained
    for other steps than those of its config has them as a condition; where data.json is missing and the
    duration is in epochs, these are the steps of most runs of the same duration, batch size and data.
    """
    conditions = [conditions_of(run.config) if run.config else {} for run in runs]
    for own, name in zip(conditions, data_versions(runs, conditions), strict=True):
        if name is not None:
            own[DATA] = name
    for own, steps in zip(conditions, _unusual_steps(runs, conditions), strict=True):
        if steps is not None:
            own[STEPS] = steps
    return [replace(run, conditions=own) for run, own in zip(runs, conditions, strict=True)]


def _unusual_steps(runs: Sequence[Run], conditions: Sequence[Conditions]) -> list[int | None]:
    """Steps of each run that was not trained for those of its config, else None."""
    keys = [tuple(own.get(name) for name in _STEPS_FROM) for own in conditions]
    steps = [run.status.get("step" if run.state == "done" else "total_steps") for run in runs]
    found: dict[Any, Counter[int]] = {}
    for key, number in zip(keys, steps, strict=True):
        if isinstance(number, int):
            found.setdefault(key, Counter())[number] += 1
    usual = {key: counter.most_common(1)[0][0] for key, counter in found.items()}
    planned = map(_planned_steps, runs, conditions)
    return [
        number if isinstance(number, int) and number != (plan or usual[key]) else None
        for key, number, plan in zip(keys, steps, planned, strict=True)
    ]


def _planned_steps(run: Run, own: Conditions) -> int | None:
    """The steps of a config; None where the number of training images is needed, but not known."""
    duration, batch_size = own.get("train.duration"), own.get("train.batch_size")
    if isinstance(duration, int):
        return duration
    examples = run.data.get("train_examples")
    if not isinstance(duration, str) or not isinstance(batch_size, int) or examples is None:
        return None
    try:
        return round(to_steps("train.duration", duration, examples, batch_size))
    except UserError:
        return None
