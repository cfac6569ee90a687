"""The stored config of a run: the paths that it names, and what a command that reads the run may change.

This module imports no JAX.
"""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resnet_jax import origin
from resnet_jax.config import FIELDS, Config, canonical, flatten, override
from resnet_jax.errors import UserError

# What an evaluated image is; a log has one protocol, and a command that reads a run may take another.
PROTOCOL = [name for name, field in FIELDS.items() if field.protocol]
PATHS = [name for name, field in FIELDS.items() if field.path]
# Data sets that TFDS knows by name: no path, and no namespace whose code it would fetch.
_NAME = re.compile(r"[A-Za-z]\w*(?:/\w[\w.-]*)?")
# What lies in `data.data_dir`.
_INSIDE = re.compile(r"folder:(?![/~])(?!(?:.*/)?\.\.(?:/|$)).+", re.DOTALL)


def paths_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Field → path, of those that a nested config names."""
    stated = flatten(config)
    return {name: stated[name] for name in PATHS if stated.get(name) is not None}


def unnamed(
    directory: Path, config: Mapping[str, Any], overrides: Mapping[str, Any]
) -> dict[str, Any]:
    """The paths that a run names and that this user did not name.

    Args:
        directory: of the run.
        config: its stored config.
        overrides: field → value, from the command line: to repeat a path is to name it.
    """
    paths = paths_of(config)
    if origin.are_named_by_user(directory, paths):
        return {}
    inside = "data.data_dir" in overrides and _INSIDE.fullmatch(paths["data.name"])
    named = {"data.name"} if inside or _NAME.fullmatch(paths["data.name"]) else set()
    return {name: path for name, path in paths.items() if name not in named | set(overrides)}


def refuse(directory: Path, paths: Mapping[str, Any]) -> None:
    """Refuse to read paths that `unnamed` found.

    Raises:
        UserError: names the first, and how to confirm all.
    """
    if paths:
        name, value = next(iter(paths.items()))
        repeated = (shlex.quote(f"--config.{name}={value}") for name, value in paths.items())
        problem = f"is named by {directory}/config.json, which is not known to be yours"
        raise UserError(name, value, problem, f"to read it, add {' '.join(repeated)}")


def with_overrides(
    directory: Path, stored: Mapping[str, Any], overrides: Mapping[str, Any]
) -> tuple[Config, dict[str, Any]]:
    """The config of a run with fields changed that say where it runs or how it is evaluated.

    Args:
        directory: of the run.
        stored: its config.json.
        overrides: field → value.

    Returns:
        The config, and the paths in it that the user did not name.

    Raises:
        UserError: an override that changes what was trained.
    """
    config = override(Config(), flatten(stored))
    stated = flatten(config.to_dict())
    changeable = [name for name, field in FIELDS.items() if field.runtime_only or name in PROTOCOL]
    for name in overrides:
        if name not in FIELDS or name in changeable:
            continue
        if name not in PATHS or canonical(name, overrides[name]) != stated[name]:
            problem = f"belongs to the run; only these may change: {', '.join(changeable)}"
            raise UserError(f"--config.{name}", overrides[name], problem)
    unconfirmed = unnamed(directory, config.to_dict(), overrides)
    ignored = {"data.cache_dir": None} if "data.cache_dir" in unconfirmed else {}
    return override(config, {**ignored, **overrides}), unconfirmed


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config with defaults for the fields that an earlier version had not."""
    complete = Config().to_dict()
    for name, section in config.items():
        if isinstance(section, Mapping) and isinstance(complete.get(name), Mapping):
            complete[name] |= section
        else:
            complete[name] = section
    return complete
