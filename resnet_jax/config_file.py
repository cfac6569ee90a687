"""Configs from files and command lines: loading, overriding, comparing."""

import contextlib
import importlib.util
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from resnet_jax.config import (
    FIELDS,
    canonical,
    field_meant,
    find_field,
    flatten,
    set_field,
    validate,
)
from resnet_jax.errors import UserError, most_like, nearest
from resnet_jax.wording import first_few


@dataclass(frozen=True)
class ConfigFile:
    """A Python file with `get_config()`, and in a study `sweep()`; both may take a form.

    Attributes:
        path: of the file.
        form: what stands behind the colon of `FILE:FORM`; None: nothing does.
        module: what the file defines.
    """

    path: str
    form: str | None
    module: ModuleType

    def config(self) -> ConfigDict:
        """What `get_config()` returns, checked.

        Raises:
            UserError: there is no such function, it raises, or its config is illegal.
        """
        config = self.call("get_config")
        if not isinstance(config, ConfigDict):
            kind = type(config).__name__
            raise UserError(
                "--config", self.path, f"get_config() returned {kind}, not a ConfigDict"
            )
        return validate(config)

    def call(self, name: str) -> Any:
        """Call a function of the file, with the form where there is one.

        Raises:
            UserError: there is no such function or form, or it raises.
        """
        if not hasattr(self.module, name):
            fix = "to train one run use the command `train`" if name == "sweep" else ""
            raise UserError("--config", self.path, f"has no function {name}()", fix)
        function = getattr(self.module, name)
        forms = getattr(self.module, "FORMS", ())
        if self.form is not None and self.form not in forms:
            allowed = "this file has no forms (FORMS)"
            fix = f"give {self.path} alone"
            if forms:
                allowed, fix = f"allowed: {', '.join(forms)}", nearest(self.form, forms)
            raise UserError("--config", f"{self.path}:{self.form}", allowed, fix)
        with _mistakes_of(self.path):
            return function() if self.form is None else function(self.form)


def open_config_file(argument: str) -> ConfigFile:
    """Run a config file.

    Args:
        argument: `FILE` or `FILE:FORM`.

    Raises:
        UserError: the file does not exist or raises.
    """
    path, colon, form = argument.rpartition(":")
    if not colon or os.path.isfile(argument):
        path, form = argument, ""
    if not os.path.isfile(path):
        raise UserError("--config", path, "no such file", _config_like(path))
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None:
        raise UserError("--config", path, "is not a Python file", "config files end in .py")
    module = importlib.util.module_from_spec(spec)
    with _mistakes_of(path):
        spec.loader.exec_module(module)
    return ConfigFile(path, form or None, module)


@contextlib.contextmanager
def _mistakes_of(path: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        problem, fix = f"raised {type(error).__name__}: {error}", "fix the config file"
        # A locked ConfigDict lists the values of the whole section.
        if unknown := re.search(r'Key "(\w+)" does not exist', str(error)):
            meant = field_meant(unknown[1])
            problem = f"sets or reads a field {unknown[1]!r}, which does not exist"
            fix = f"did you mean config.{meant}?" if meant else "`train --help` lists the fields"
        raise UserError("--config", path, problem, fix) from error


def _config_like(path: str) -> str:
    """A hint at the config file that is meant by a path where there is none."""
    if os.path.isdir(path):
        return f"it is a directory; give one of its files: {first_few(sorted(Path(path).glob('*.py')))}"
    folders = [Path("configs"), Path(path).parent]
    by_name = {
        file.stem: file
        for folder in folders
        if os.path.isdir(folder)
        for file in sorted(folder.glob("**/*.py" if folder.name == "configs" else "*.py"))
    }
    meant = most_like(Path(path).stem, by_name)
    return (
        f"did you mean {by_name[meant]}?" if meant else "give the path of a config file (configs/…)"
    )


def load_config(argument: str) -> ConfigDict:
    """The config of a file, `FILE` or `FILE:FORM`.

    Raises:
        UserError: as `open_config_file` and `ConfigFile.config`.
    """
    return open_config_file(argument).config()


def override(config: ConfigDict, overrides: Mapping[str, Any]) -> ConfigDict:
    """A copy of `config` with dotted fields replaced, checked and in canonical spelling.

    Args:
        config: a complete config.
        overrides: dotted field → value, or its text.

    Raises:
        UserError: no such field, or a value of the wrong kind.
    """
    changed = ConfigDict(config.to_dict(), type_safe=False)
    for name, value in overrides.items():
        find_field(name)
        set_field(changed, name, value)
    return validate(changed)


def respell(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config dict, as an earlier version may have written it, with one spelling for equal values.

    Unknown fields and illegal values stay as they are; sequences are lists, as in JSON.
    """

    def spelled(name: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: spelled(f"{name}.{key}" if name else key, v) for key, v in value.items()}
        with contextlib.suppress(UserError):
            value = canonical(name, value) if name in FIELDS else value
        return list(value) if isinstance(value, tuple) else value

    return spelled("", config)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Lines `field: old → new` where two config dicts compute different things.

    Fields that only say where a run happens (`Field.place`) may differ.
    """
    before, after = flatten(respell(old)), flatten(respell(new))
    lines = []
    for name in dict.fromkeys([*before, *after]):
        a, b = before.get(name), after.get(name)
        if a != b and not (name in FIELDS and FIELDS[name].place):
            lines.append(f"{name}: {a!r} → {b!r}")
    return lines


def same_everywhere(config: ConfigDict) -> dict[str, Any]:
    """Field → value of those that all processes of a run must have alike.

    Each may have its own place of the data and its own workers.
    """
    values = flatten(config.to_dict())
    own = (name for name in values if name.startswith("data.") and FIELDS[name].place)
    return {name: canonical(name, values[name]) for name in values.keys() - set(own)}
