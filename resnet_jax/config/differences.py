"""Comparing configs: what makes two runs different, and what the processes of one run share."""

import contextlib
from collections.abc import Mapping
from typing import Any

from resnet_jax.config.fields import flatten
from resnet_jax.config.schema import FIELDS, Config
from resnet_jax.config.values import canonical
from resnet_jax.errors import UserError


def spelled_once(name: str, value: Any) -> Any:
    """The one spelling of a value; illegal values and values of unknown fields are returned unchanged."""
    if name in FIELDS:
        with contextlib.suppress(UserError):
            return canonical(name, value)
    return value


def respell(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config dict, as an earlier version may have written it, with one spelling for equal values.

    Unknown fields and illegal values do not change; sequences are lists, as in JSON.
    """

    def spelled(name: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: spelled(f"{name}.{key}", v) for key, v in value.items()}
        value = spelled_once(name, value)
        return list(value) if isinstance(value, tuple) else value

    return {name: spelled(name, value) for name, value in config.items()}


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Lines `field: old → new` where two config dicts compute different things.

    Runtime-only fields may differ.
    """
    before, after = flatten(respell(old)), flatten(respell(new))
    lines = []
    for name in dict.fromkeys([*before, *after]):
        a, b = before.get(name), after.get(name)
        if a != b and not (name in FIELDS and FIELDS[name].runtime_only):
            lines.append(f"{name}: {a!r} → {b!r}")
    return lines


def same_everywhere(config: Config) -> dict[str, Any]:
    """Field → value, of the fields that must be equal in all processes of a run.

    Each process may have its own data directory and decoding workers.
    """
    values = flatten(config.to_dict())
    per_process = {n for n in values if n.startswith("data.") and FIELDS[n].runtime_only}
    return {name: value for name, value in values.items() if name not in per_process}
