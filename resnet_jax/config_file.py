"""Configs from files and command lines: loading, overriding, comparing."""

import contextlib
import importlib.util
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from resnet_jax.config import FIELDS, canonical, find_field, flatten, set_field, validate
from resnet_jax.errors import UserError, nearest


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
        raise UserError(
            "--config", path, "no such file", "give the path of a config file (configs/…)"
        )
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
        problem = f"raised {type(error).__name__}: {error}"
        raise UserError("--config", path, problem, "mend the config file") from error


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
    return {name: values[name] for name in values.keys() - set(own)}
