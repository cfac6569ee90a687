"""JSON: written without NaN and Infinity, which other readers refuse; read within bounds."""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from resnet_jax.files import read_file

# Bytes of a JSON file: parsed, it takes some 30 times as many.
LARGEST = 2**24
# None of ours has more than 5.
MOST_LEVELS = 32


def to_json(value: Any, **options: Any) -> str:
    """The JSON text of a value.

    Args:
        value: dicts, lists, texts, numbers, truth values and None.
        **options: of `json.dumps`.

    Raises:
        ValueError: a number is not finite: what may be undefined is None.
    """
    return json.dumps(value, allow_nan=False, **options)


def from_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is no JSON, or nested more than `MOST_LEVELS` deep.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level = [value]
    for _ in range(MOST_LEVELS + 1):
        level = [part for node in level for part in _parts(node)]
        if not level:
            return value
    raise ValueError("it is nested too deeply")


def _parts(node: Any) -> Iterable[Any]:
    if isinstance(node, dict):
        return node.values()
    return node if isinstance(node, list) else ()


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        OSError: the file cannot be read, is not a regular one, or is larger than `LARGEST`.
        ValueError: it holds something else.
    """
    value = from_json(read_file(path, LARGEST).decode("utf-8"))
    if not isinstance(value, dict):
        raise ValueError("it holds no JSON object")
    return value


def is_finite(value: Any) -> bool:
    """Whether all numbers in a tree of dicts and lists are finite."""
    if isinstance(value, Mapping):
        return all(map(is_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)
