"""Studies as lists of overrides: `product`, `zip_` and `chain` of fields and their values; ranges.

A part of a study is a mapping of dotted fields to the values that each takes, or a list of overrides.

    product({"model.depth": (8, 20), "model.shortcut": ("none", "A")}, {"seed": range(3)})

is twelve runs. A search instead states ranges: {"optimizer.learning_rate": log_uniform(0.01, 1.0)}.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from resnet_jax.errors import UserError

T = TypeVar("T")
Overrides = dict[str, Any]
Part = Mapping[str, Iterable[Any]] | Iterable[Mapping[str, Any]]

# Of a study.
MOST_RUNS = 100_000


@dataclass(frozen=True)
class Range:
    """Values that a search tries: whole numbers where both ends are.

    Attributes:
        low, high: both may be tried.
        log: uniform in the logarithm.
    """

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Choice:
    """Values that a search tries, each as it is."""

    values: tuple[Any, ...]


def uniform(low: float, high: float) -> Range:
    """Any number from `low` to `high`; whole ones where both are."""
    return Range(low, high)


def log_uniform(low: float, high: float) -> Range:
    """The same, uniform in the logarithm; `low` is above 0."""
    return Range(low, high, log=True)


def choice(*values: Any) -> Choice:
    """One of `values`."""
    return Choice(values)


def product(*parts: Part) -> list[Overrides]:
    """Every combination of all parts; the last one varies fastest. Later fields replace earlier."""
    return _product([_overrides(part) for part in parts])


def zip_(*parts: Part) -> list[Overrides]:
    """The first of each with the first of the others, the second with the second, and so on.

    Raises:
        UserError: they have different lengths.
    """
    lists: list[list[Overrides]] = []
    for part in parts:
        if isinstance(part, Mapping):
            lists += [[{field: value} for value in _few(values)] for field, values in part.items()]
        else:
            lists.append(_overrides(part))
    lengths = [len(overrides) for overrides in lists]
    if len(set(lengths)) > 1:
        raise UserError("zip_", lengths, "all parts must have the same number of values")
    return [_merge(combination) for combination in zip(*lists, strict=True)]


def chain(*parts: Part) -> list[Overrides]:
    """The runs of one part after those of the other."""
    return [overrides for part in parts for overrides in _overrides(part)]


def _overrides(part: Part) -> list[Overrides]:
    if not isinstance(part, Mapping):
        return [dict(overrides) for overrides in _few(part)]
    return _product([[{field: value} for value in _few(values)] for field, values in part.items()])


def _product(lists: Sequence[Sequence[Overrides]]) -> list[Overrides]:
    count = math.prod(map(len, lists))
    if count > MOST_RUNS:
        raise UserError("sweep()", count, f"states more than {MOST_RUNS:,} runs")
    return [_merge(combination) for combination in itertools.product(*lists)]


def _few(values: Iterable[T]) -> list[T]:
    """The values, which may be endless.

    Raises:
        UserError: there are more than `MOST_RUNS`.
    """
    few = list(itertools.islice(values, MOST_RUNS + 1))
    if len(few) > MOST_RUNS:
        raise UserError("sweep()", f"{MOST_RUNS:,} and more", "states too many values of a field")
    return few


def _merge(combination: Iterable[Mapping[str, Any]]) -> Overrides:
    return {field: value for overrides in combination for field, value in overrides.items()}
