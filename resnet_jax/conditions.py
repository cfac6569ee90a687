"""The conditions of a run: the values of all config fields that can change its numbers, but no seed."""

from collections.abc import Mapping
from typing import Any

from resnet_jax.config import FIELDS, canonical
from resnet_jax.errors import UserError


def conditions_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted field → value, each value spelled in one way.

    Fields that an earlier version did not have get their defaults, as when such a run is resumed.
    """
    complete = {name: field.default for name, field in FIELDS.items()} | dict(config)
    return {name: _spelled(name, value) for name, value in complete.items() if _counts(name)}


def _counts(name: str) -> bool:
    return name != "seed" and not (name in FIELDS and FIELDS[name].runtime_only)


def _spelled(name: str, value: Any) -> Any:
    """The one spelling of a value; illegal values and values of unknown fields are returned unchanged."""
    if name not in FIELDS:
        return value
    try:
        return canonical(name, value)
    except UserError:
        return value
