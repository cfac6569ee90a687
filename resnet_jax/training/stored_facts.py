"""What kinds of values the files of a run directory hold. Anybody may have written them, or cut them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from resnet_jax.config import FIELDS, LARGEST_SIDE

Kind = tuple[str, Callable[[Any], bool]]


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _is_number(value: Any) -> bool:
    """Finite, as a float."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and -1e300 < value < 1e300


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _each(kind: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(kind, value))


COUNT: Kind = ("a whole number from 0", _is_count)
NUMBER: Kind = ("a finite number", _is_number)
TEXT: Kind = ("text", _is_text)
TEXTS: Kind = ("a list of texts", _each(_is_text))
COUNTS: Kind = ("a list of whole numbers", _each(_is_count))
NUMBERS: Kind = ("a list of finite numbers", _each(_is_number))

_STATUS = {
    "state": TEXT,
    "step": COUNT,
    "total_steps": COUNT,
    "seconds": NUMBER,
    "parameters": COUNT,
    "macs": COUNT,
    "error": TEXT,
    "devices": TEXTS,
    "versions": ("texts by name", lambda v: isinstance(v, dict) and all(map(_is_text, v.values()))),
    "result": ("numbers by name", lambda v: isinstance(v, dict)),
}
_DATA = {
    "name": TEXT,
    "train_split": TEXT,
    "eval_split": TEXT,
    "train_examples": COUNT,
    "eval_examples": COUNT,
    "class_names": TEXTS,
    "image_shape": COUNTS,
    "mean": NUMBERS,
    "std": NUMBERS,
    "interpolation": TEXT,
    "measured": (
        "a mean and a std",
        lambda v: (
            isinstance(v, dict) and v.keys() == {"mean", "std"} and all(map(NUMBERS[1], v.values()))
        ),
    ),
}
_LINE = {
    "event": TEXT,
    "step": COUNT,
    "epoch": NUMBER,
    "examples": COUNT,
    "example": TEXT,
    "problem": TEXT,
}


def check_config(config: Mapping[str, Any], prefix: str = "") -> None:
    """Refuse a config with values that no field has; names that none has may be of another version.

    Raises:
        ValueError: names the first.
    """
    for name, value in config.items():
        if isinstance(value, Mapping):
            check_config(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            check_config({f"{name}[{i}]": part for i, part in enumerate(value)})
        elif isinstance(value, bool) and not _is_bool(prefix + name):
            # Equal to 1, it would pass for another run.
            raise ValueError(f"{prefix}{name} is {value}")
        elif isinstance(value, int | float) and not (-1e300 < value < 1e300):
            raise ValueError(f"{prefix}{name} is not a finite number")


def _is_bool(name: str) -> bool:
    """Whether a field, or one that is not of this version, may be true or false."""
    return name not in FIELDS or FIELDS[name].kind == "bool"


def check_status(status: Mapping[str, Any]) -> None:
    """Refuse a status.json with facts of other kinds.

    Raises:
        ValueError: names the first.
    """
    _check(status, _STATUS, ("state",))


def check_data(facts: Mapping[str, Any]) -> None:
    """Refuse a data.json with facts of other kinds.

    Raises:
        ValueError: names the first.
    """
    _check(facts, _DATA, ())
    measured = facts.get("measured", {})
    constants = [
        part[name] for part in (facts, measured) for name in ("mean", "std") if name in part
    ]
    if "image_shape" in facts:
        shape = facts["image_shape"]
        if len(shape) != 3 or not all(1 <= side <= LARGEST_SIDE for side in shape):
            raise ValueError(f"image_shape is {shape}, not height, width and channels")
        constants.append(range(shape[-1]))
    if len(set(map(len, constants))) > 1:
        raise ValueError("mean and std do not have a number for each channel")


def check_line(line: Any) -> None:
    """Refuse a line of metrics.jsonl without event and step, or with facts of other kinds.

    Raises:
        ValueError: names the first.
    """
    if not isinstance(line, Mapping):
        raise ValueError("it holds no JSON object")
    _check(line, _LINE, ("event", "step"))


def _check(facts: Mapping[str, Any], kinds: Mapping[str, Kind], needed: Iterable[str]) -> None:
    for name in needed:
        if name not in facts:
            raise ValueError(f"it has no {name!r}")
    for name, (words, is_kind) in kinds.items():
        if name in facts and not is_kind(facts[name]):
            raise ValueError(f"{name} is {str(facts[name])[:100]!r}, not {words}")
