"""Errors that the command line prints as one clear line."""

import difflib
import functools
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
# Characters of a value in an error; a path has up to 4,096.
LONGEST_VALUE = 5000


def printable(text: object) -> str:
    r"""Text on one line that every stream with an error handler for its encoding can take.

    What does not print (line breaks, control and format characters, surrogates) is escaped as in a
    Python string; the surrogate of a byte that is not UTF-8 (PEP 383) as that byte: `caf\xe9`.
    """
    return "".join(c if c.isprintable() else _escaped(c) for c in str(text))


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def shortened(text: str, longest: int) -> str:
    """Text whose middle is left out where it is longer."""
    return text if len(text) <= longest else f"{text[: longest // 2]}…{text[-longest // 2 :]}"


class UserError(Exception):
    """A mistake in the input; the command line prints it as one line and exits with code 2.

    Args:
        field: a config field (`model.depth`), an option (`--workdir`) or a file.
        value: the value that was given.
        problem: why it is refused, or what is allowed.
        fix: what to do about it; empty where `problem` says it already.
    """

    exit_code = 2

    def __init__(self, field: str, value: Any, problem: str, fix: str = "") -> None:
        self.field, self.value, self.problem, self.fix = field, value, problem, fix
        problem, fix = (" ".join(text.split()) for text in (problem, fix))
        shown = shortened(repr(value), LONGEST_VALUE)
        message = f"{field} = {shown}: {problem}" + (f"; {fix}" if fix else "")
        super().__init__(printable(message))

    def __reduce__(self) -> tuple[Any, ...]:
        # Processes hand it on to each other.
        return UserError, (self.field, self.value, self.problem, self.fix)


class NotFiniteError(ArithmeticError):
    """A network whose outputs are not finite; the command line prints it and exits with code 3."""

    exit_code = 3


@functools.cache
def warn(message: str) -> None:
    """Print a warning as one line to stderr, the same one once per process."""
    print(f"warning: {printable(message)}", file=sys.stderr, flush=True)


@contextmanager
def told_of(option: str, instead_of: str) -> Iterator[None]:
    """In this context a `UserError` about one field names `option` instead, which set the field."""
    try:
        yield
    except UserError as error:
        if error.field != instead_of:
            raise
        raise UserError(option, error.value, error.problem, error.fix) from error


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean 'X'?` for the known word most like `word`, or the empty string."""
    found = most_like(word, known)
    return "" if found is None else f"did you mean {found!r}?"


def most_like(word: str, known: Iterable[str]) -> str | None:
    """The known word most like `word`, or None.

    First one that differs in case, hyphens, underscores and spaces alone: `CIFAR-10` is `cifar10`.
    """
    known = list(known)
    alike = [one for one in known if letters_of(one) == letters_of(word)]
    lower = {one.casefold(): one for one in reversed(known)}
    matches = difflib.get_close_matches(word.casefold(), list(lower), n=1)
    return next(iter([*alike, *(lower[match] for match in matches)]), None)


def letters_of(word: str) -> str:
    """What counts of a word when names are compared."""
    return re.sub(r"[-_\s]", "", word.casefold())


def choose(field: str, value: Any, table: Mapping[str, T]) -> T:
    """Look up a config choice in the literal table of its room.

    Raises:
        UserError: `value` is not a key of `table`.
    """
    if value in table:
        return table[value]
    raise UserError(field, value, f"allowed: {', '.join(table)}", nearest(str(value), table))
