"""JSON without NaN and Infinity, which Python writes and other readers refuse."""

import json
import math
from collections.abc import Mapping
from typing import Any


def to_json(value: Any, **options: Any) -> str:
    """The JSON text of a value.

    Args:
        value: dicts, lists, texts, numbers, truth values and None.
        **options: of `json.dumps`.

    Raises:
        ValueError: a number is not finite: what may be undefined is None.
    """
    return json.dumps(value, allow_nan=False, **options)


def is_finite(value: Any) -> bool:
    """Whether all numbers in a tree of dicts and lists are finite."""
    if isinstance(value, Mapping):
        return all(map(is_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)
