"""The conditions of a run: the values of all config fields that can change its numbers, but no seed."""

from collections.abc import Mapping
from typing import Any

from resnet_jax.config import FIELDS, spelled_once


def conditions_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted field → value, each value spelled in one way.

    Fields that an earlier version did not have get their defaults, as when such a run is resumed.
    """
    complete = {name: field.default for name, field in FIELDS.items()} | dict(config)
    return {name: spelled_once(name, value) for name, value in complete.items() if _counts(name)}


def _counts(name: str) -> bool:
    return name != "seed" and not (name in FIELDS and FIELDS[name].runtime_only)
