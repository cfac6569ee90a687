"""The one error of this package: a choice that does not exist or that does not fit the others."""

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class IllegalChoiceError(ValueError):
    """An architecture was asked for that does not exist.

    Attributes:
        field: the name of the argument.
        value: what was given.
        allowed: the legal values, in words.
        known: the legal values, where they are names.
    """

    def __init__(self, field: str, value: Any, allowed: str, known: Collection[str] = ()) -> None:
        self.field, self.value, self.allowed, self.known = field, value, allowed, tuple(known)
        super().__init__(f"{field} = {value!r}: allowed: {allowed}")


def pick(field: str, value: Any, table: Mapping[str, T]) -> T:
    """Look `value` up in `table`.

    Raises:
        IllegalChoiceError: `value` is not a key of `table`.
    """
    return table[member(field, value, table)]


def member(field: str, value: Any, allowed: Collection[str]) -> Any:
    """`value`, if it is one of those allowed.

    Raises:
        IllegalChoiceError: it is not.
    """
    if value not in allowed:
        raise IllegalChoiceError(field, value, ", ".join(allowed), allowed)
    return value
