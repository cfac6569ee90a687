"""How a section of the schema declares a field, and what is known about a field."""

import dataclasses
import functools
import operator
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from resnet_jax.config.rules import ANY, Rule

T = TypeVar("T")
# A number of optimiser steps, or text such as "90 epochs".
Duration = int | str
_KINDS = {int: "int", float: "float", bool: "bool", str: "str", Duration: "duration"}
NEVER = object()


class Traced(NamedTuple):
    """Marks a number that compiled programs take as an argument: runs that differ in it share them.

    Attributes:
        off: the value that leaves what the number controls out of the program; `NEVER`: none does.
    """

    off: Any = NEVER


class Field(NamedTuple):
    """One config field.

    Attributes:
        kind: `int`, `float`, `bool`, `str` or `duration`; `ints`, `floats`, `strs` and `durations` are
            lists.
        optional: whether `None` is legal.
        default: its value where a config sets none.
        meaning: what it does, with its unit.
        rule: what values are legal; of a list, what items.
        runtime_only: it changes where and how a run is executed, not what it computes, so a run may
            resume with another value.
        path: it names, or can name, a file or directory.
        protocol: it changes how images are evaluated, so a command that reads a run may set it.
        traced: how compiled programs take it as an argument; None: they do not.
        in_rates: they take it only as part of the array of learning rates.
    """

    kind: str
    optional: bool
    default: Any
    meaning: str
    rule: Rule
    runtime_only: bool = False
    path: bool = False
    protocol: bool = False
    traced: Traced | None = None
    in_rates: bool = False


def setting(default: T, meaning: str, rule: Rule = ANY, **marks: Any) -> T:
    """Declare a field of a section; its annotation gives its kind and whether `None` is legal.

    Args:
        default, meaning, rule: attributes of `Field`.
        **marks: its other attributes.
    """
    return dataclasses.field(default=default, metadata={"meaning": meaning, "rule": rule, **marks})


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a config. Its values do not change."""

    def to_dict(self) -> dict[str, Any]:
        """Nested dicts, sorted by name like `ConfigDict.to_dict`."""
        return {
            name: value.to_dict() if isinstance(value, Section) else value
            for name, value in sorted(vars(self).items())
        }


def declared_fields(section: type[Section], prefix: str = "") -> Iterator[tuple[str, Field]]:
    """All (dotted name, field) of a section, in the order of their declarations."""
    for part in dataclasses.fields(section):
        if isinstance(part.default, Section):
            yield from declared_fields(type(part.default), f"{prefix}{part.name}.")
        else:
            kind, optional = _kind_of(part.type)
            yield prefix + part.name, Field(kind, optional, part.default, **part.metadata)


def _kind_of(annotation: Any) -> tuple[str, bool]:
    """`tuple[float, ...] | None` → (`floats`, True)."""
    optional = types.NoneType in typing.get_args(annotation)
    if optional:
        others = (t for t in typing.get_args(annotation) if t is not types.NoneType)
        annotation = functools.reduce(operator.or_, others)
    if typing.get_origin(annotation) is tuple:
        return f"{_KINDS[typing.get_args(annotation)[0]]}s", optional
    return _KINDS[annotation], optional


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts to {dotted name: value}."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat
