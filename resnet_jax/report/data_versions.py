"""Runs that name the same data set, but read other data, by the data.json that each of them wrote."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from resnet_jax.plotting.labels import value_label
from resnet_jax.report.run import Run

Conditions = Mapping[str, Any]
Facts = Mapping[str, Any]

DATA = "data.name"
# Fact → the fields that it follows from, apart from the data set; None: all fields of the data.
_FOLLOWS_FROM: dict[str, tuple[str, ...] | None] = {
    "class_names": (),
    "image_shape": ("data.image_size",),
    "train_examples": ("data.train_split",),
    "eval_split": ("data.eval_split",),
    "eval_examples": ("data.eval_split",),
    "interpolation": None,
    "mean": None,
    "std": None,
    "measured": None,
}
_NUMBERS = ("mean", "std", "measured")
# Another decoder rounds otherwise (`training/data_changes.py`).
_CLOSE = 0.01
_MOST_NAMES = 6


def data_versions(runs: Sequence[Run], conditions: Sequence[Conditions]) -> list[str | None]:
    """What to call the data of each run where one name stands for several data sets; else None.

    Data are several where a fact differs between runs whose configs lead to the same one. A run without a
    data.json counts as having the same one as a run with the same fields of the data.

    Args:
        runs: of a study.
        conditions: of each: dotted field → value.
    """
    facts = _known(runs, conditions)
    keys: list[tuple[tuple[str, Any], ...]] = [() for _ in runs]
    for fact in _FOLLOWS_FROM:
        groups: dict[Any, list[Any]] = {}
        places = []
        for own, known in zip(conditions, facts, strict=True):
            seen = groups.setdefault(_source(fact, own), [])
            value = known.get(fact)
            place = next((i for i, other in enumerate(seen) if _close(fact, value, other)), None)
            if place is None:
                place = len(seen)
                seen.append(value)
            places.append(place)
        for i, (own, place) in enumerate(zip(conditions, places, strict=True)):
            seen = groups[_source(fact, own)]
            if len(seen) > 1 and runs[i].config:
                keys[i] += ((fact, seen[place]),)
    names: dict[Any, list[Any]] = {}
    for own, key in zip(conditions, keys, strict=True):
        versions = names.setdefault(own.get(DATA), [])
        if key not in versions:
            versions.append(key)
    return [
        _label(own[DATA], names[own[DATA]].index(key), key)
        if len(names.get(own.get(DATA), ())) > 1
        else None
        for own, key in zip(conditions, keys, strict=True)
    ]


def _known(runs: Sequence[Run], conditions: Sequence[Conditions]) -> list[Facts]:
    """The data.json of each run, or, before its start, of a run of the same data."""
    of_data: dict[Any, Facts] = {}
    for run, own in zip(runs, conditions, strict=True):
        if run.data:
            of_data.setdefault(_source("mean", own), run.data)
    has_begun = [bool(len(run.test.step) or len(run.train.step)) for run in runs]
    return [
        run.data if run.data or begun else of_data.get(_source("mean", own), {})
        for run, own, begun in zip(runs, conditions, has_begun, strict=True)
    ]


def _source(fact: str, own: Conditions) -> tuple[Any, ...]:
    fields = _FOLLOWS_FROM[fact]
    if fields is None:
        of_data = ("data.", "model.init_")
        return tuple((name, own[name]) for name in sorted(own) if name.startswith(of_data))
    return (own.get(DATA), *(own.get(name) for name in fields))


def _close(fact: str, first: Any, second: Any) -> bool:
    if first == second or fact not in _NUMBERS or first is None or second is None:
        return first == second
    return len(first) == len(second) and all(
        math.isclose(a, b, abs_tol=_CLOSE) for a, b in zip(first, second, strict=True)
    )


def _label(name: Any, index: int, key: Sequence[tuple[str, Any]]) -> str:
    """`digits, version 2 (1000 training images)`."""
    label = f"{value_label(DATA, name)}, version {index + 1}"
    words = ", ".join(_words(fact, value) for fact, value in key)
    return f"{label} ({words})" if words else label


def _words(fact: str, value: Any) -> str:
    if value is None:
        return f"{fact.replace('_', ' ')} not known"
    if fact == "class_names":
        more = ", …" if len(value) > _MOST_NAMES else ""
        return f"{len(value)} classes: {', '.join(map(str, value[:_MOST_NAMES]))}{more}"
    if fact == "image_shape":
        return f"{'×'.join(map(str, value))} pixels"
    if fact in _NUMBERS:
        return f"{fact} {', '.join(f'{part:.3g}' for part in value)}"
    words = {
        "train_examples": f"{value} training images",
        "eval_examples": f"{value} evaluated images",
        "eval_split": f"evaluated on {value}",
    }
    return words.get(fact, f"{fact} {value}")
