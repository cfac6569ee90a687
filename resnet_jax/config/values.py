"""The one spelling of a value, so that equal settings are equal values."""

import math
import numbers
from collections.abc import Callable, Iterable
from typing import Any

from resnet_jax.config.durations import spell_duration
from resnet_jax.config.fields import Field
from resnet_jax.config.names import find_field
from resnet_jax.errors import UserError

_ALLOWED = {
    "int": "a whole number",
    "float": "a number",
    "bool": "True or False",
    "str": "text",
    "duration": "a duration: '64000 steps' or '90 epochs'",
    "ints": "a list of whole numbers: '224, 256'",
    "floats": "a list of numbers: '0.485, 0.456, 0.406'",
    "strs": "a list of names: 'stem, stage1'",
    "durations": "a list of durations: '30 epochs, 60 epochs'",
}


def canonical(name: str, value: Any) -> Any:
    """The one spelling of a legal value.

    `64000`, `"64000 steps"` and `64000.0` are the duration 64000, `"90.0 epochs"` is `"90 epochs"`; of a
    float field `1` and `"1e0"` are 1.0; lists are tuples.

    Args:
        name: dotted field.
        value: of any legal spelling, or its text.

    Raises:
        UserError: no such field, or an illegal value.
    """
    field = find_field(name)
    # `none` is a choice of some text fields: model.shortcut.
    is_none = value == "None" or (field.kind != "str" and str(value).lower() == "none")
    if field.optional and (value is None or is_none):
        return None
    if field.kind in ("ints", "floats", "strs", "durations"):
        item = field._replace(kind=field.kind[:-1])
        return tuple(_canonical(name, item, one) for one in _items(name, field, value))
    return _canonical(name, field, value)


def _items(name: str, field: Field, value: Any) -> Iterable[Any]:
    if isinstance(value, str):
        parts = (part.strip(" '\"") for part in value.strip("()[] ").split(","))
        return [part for part in parts if part]
    if isinstance(value, tuple | list):
        return value
    raise UserError(name, value, f"must be {_ALLOWED[field.kind]}")


def _canonical(name: str, field: Field, value: Any) -> Any:
    if field.kind != "duration":
        result = number = _CONVERSIONS[field.kind](value)
    elif isinstance(value, str) or _float(value) is not None:
        result, number = spell_duration(name, value)
    else:
        result = None
    if result is None:
        optional = ", or None" if field.optional else ""
        raise UserError(name, value, f"must be {_ALLOWED[field.kind]}{optional}")
    words, legal = field.rule
    # `not legal` also refuses a NaN.
    if not legal(number):
        raise UserError(name, result, f"must be {words}")
    if isinstance(number, float) and not math.isfinite(number):
        raise UserError(name, result, "must be finite")
    return result


def _float(value: Any) -> float | None:
    """A number or its text; None: it is neither."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    try:
        # No -0.0.
        return float(value) + 0.0 if is_number else None
    except OverflowError:
        return None


def _int(value: Any) -> int | None:
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            pass
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    number = _float(value)
    return int(number) if number is not None and number.is_integer() else None


def _bool(value: Any) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower())
    return value if isinstance(value, bool) else None


def _str(value: Any) -> str | None:
    return value if isinstance(value, str) else None


_CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "int": _int,
    "float": _float,
    "bool": _bool,
    "str": _str,
}
