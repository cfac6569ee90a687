"""The paths in the config of a run, and which of them its reader has named."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resnet_jax import origin
from resnet_jax.config import FIELDS, flatten
from resnet_jax.errors import UserError

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
