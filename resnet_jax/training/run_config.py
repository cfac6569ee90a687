"""The stored config of a run, and what a command that reads the run may change. Imports no JAX."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from resnet_jax.config import FIELDS, canonical, default_config, flatten
from resnet_jax.config_file import override
from resnet_jax.errors import UserError
from resnet_jax.training.named_paths import PATHS, unnamed

# What an evaluated image is; a log has one protocol, and a command that reads a run may take another.
PROTOCOL = [
    name
    for name, field in FIELDS.items()
    if name.startswith("evaluate.") and not field.place and name != "evaluate.every"
]


def with_overrides(
    directory: Path, stored: Mapping[str, Any], overrides: Mapping[str, Any]
) -> tuple[ConfigDict, dict[str, Any]]:
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
    config = override(default_config(), flatten(stored))
    stated = flatten(config.to_dict())
    changeable = [name for name, field in FIELDS.items() if field.place or name in PROTOCOL]
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
    complete = default_config().to_dict()
    for name, section in config.items():
        if isinstance(section, Mapping) and isinstance(complete.get(name), Mapping):
            complete[name] |= section
        else:
            complete[name] = section
    return complete
