"""Configs from files and command lines: loading, overriding, comparing."""

import ast
import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from resnet_jax.config import FIELDS, Field, find_field, flatten, validate
from resnet_jax.errors import UserError


def load_config(path: str) -> ConfigDict:
    """Run `get_config()` of a config file and check what it returns.

    Raises:
        UserError: the file does not exist, raises, has no `get_config()`, or its config is illegal.
    """
    if not Path(path).is_file():
        raise UserError(
            "--config", path, "no such file", "give the path of a config file (configs/…)"
        )
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None:
        raise UserError("--config", path, "is not a Python file", "config files end in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        if not hasattr(module, "get_config"):
            raise UserError("--config", path, "has no function get_config()")
        config = module.get_config()
    except UserError:
        raise
    except Exception as error:
        problem = f"raised {type(error).__name__}: {error}"
        raise UserError("--config", path, problem, "mend the config file") from error
    if not isinstance(config, ConfigDict):
        kind = type(config).__name__
        raise UserError("--config", path, f"get_config() returned {kind}, not a ConfigDict")
    validate(config)
    return config


def override(config: ConfigDict, overrides: Mapping[str, Any]) -> ConfigDict:
    """A copy of `config` with dotted fields replaced, checked.

    Args:
        config: a complete config.
        overrides: dotted field → value; a string is parsed where the field's kind is not `str`.

    Raises:
        UserError: no such field, or a value of the wrong kind.
    """
    changed = ConfigDict(config.to_dict(), type_safe=False)
    for name, value in overrides.items():
        field = find_field(name)
        *sections, last = name.split(".")
        node = changed
        for section in sections:
            node = node[section]
        node[last] = _parse(name, field, value) if isinstance(value, str) else value
    validate(changed)
    return changed.lock()


def _parse(name: str, field: Field, text: str) -> Any:
    if field.optional and text.lower() == "none":
        return None
    if field.kind in ("str", "duration"):
        return int(text) if field.kind == "duration" and re.fullmatch(r"-?\d+", text) else text
    if field.kind in ("ints", "strs", "durations"):
        parts = [part.strip(" '\"") for part in text.strip("()[] ").split(",")]
        number = field.kind != "strs"
        return tuple(int(p) if number and p.isdigit() else p for p in parts if p)
    try:
        value = ast.literal_eval(text.capitalize() if text.lower() in ("true", "false") else text)
    except (ValueError, SyntaxError):
        value = text
    return value


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Lines `field: old → new` where two config dicts compute different things.

    Fields that only say where a run happens (`Field.place`) may differ.
    """
    before, after = flatten(old), flatten(new)
    lines = []
    for name in dict.fromkeys([*before, *after]):
        a, b = _comparable(before.get(name)), _comparable(after.get(name))
        if a != b and not (name in FIELDS and FIELDS[name].place):
            lines.append(f"{name}: {a!r} → {b!r}")
    return lines


def _comparable(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
