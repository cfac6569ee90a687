"""Config files: Python files with a `get_config()`."""

import contextlib
import importlib.util
import os
import re
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from resnet_jax.config.names import field_meant
from resnet_jax.config.overrides import editable, validate
from resnet_jax.config.schema import Config
from resnet_jax.errors import UserError, most_like, nearest
from resnet_jax.wording import first_few

if TYPE_CHECKING:
    from ml_collections import ConfigDict


@dataclass(frozen=True)
class ConfigFile:
    """A Python file with `get_config()`, and in a study `sweep()`; both may take a variant.

    Attributes:
        path: of the file.
        variant: what follows the colon in `FILE:FORM`; None: nothing.
        module: what the file defines.
    """

    path: str
    variant: str | None
    module: ModuleType

    def config(self) -> Config:
        """What `get_config()` returns, checked.

        Raises:
            UserError: the function is missing or raises, or its config is illegal.
        """
        from ml_collections import ConfigDict

        config = self.call("get_config")
        if not isinstance(config, ConfigDict | Config):
            kind = type(config).__name__
            raise UserError(
                "--config", self.path, f"get_config() returned {kind}, not a ConfigDict"
            )
        return validate(config)

    def call(self, name: str) -> Any:
        """Call a function of the file, with the variant where one was given.

        Raises:
            UserError: the function or variant is missing, or it raises.
        """
        if not hasattr(self.module, name):
            fix = "to train one run use the command `train`" if name == "sweep" else ""
            raise UserError("--config", self.path, f"has no function {name}()", fix)
        function = getattr(self.module, name)
        variants = getattr(self.module, "FORMS", ())
        if self.variant is not None and self.variant not in variants:
            allowed = "this file has no forms (FORMS)"
            fix = f"give {self.path} alone"
            if variants:
                allowed, fix = f"allowed: {', '.join(variants)}", nearest(self.variant, variants)
            raise UserError("--config", f"{self.path}:{self.variant}", allowed, fix)
        with _mistakes_of(self.path):
            return function() if self.variant is None else function(self.variant)


def open_config_file(argument: str) -> ConfigFile:
    """Run a config file.

    Args:
        argument: `FILE` or `FILE:FORM`.

    Raises:
        UserError: the file does not exist or raises.
    """
    path, colon, variant = argument.rpartition(":")
    if not colon or os.path.isfile(argument):
        path, variant = argument, ""
    if not os.path.isfile(path):
        raise UserError("--config", path, "no such file", _config_like(path))
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None:
        raise UserError("--config", path, "is not a Python file", "config files end in .py")
    module = importlib.util.module_from_spec(spec)
    with _mistakes_of(path):
        spec.loader.exec_module(module)
    return ConfigFile(path, variant or None, module)


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
        elif isinstance(error, FrozenInstanceError):
            fix = "start from default_config(), or from another file by base_config(FILE)"
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


def load_config(argument: str) -> Config:
    """The config of a file, `FILE` or `FILE:FORM`.

    Raises:
        UserError: as `open_config_file` and `ConfigFile.config`.
    """
    return open_config_file(argument).config()


def base_config(argument: str) -> "ConfigDict":
    """The config of another file, for a `get_config()` that changes some of its fields.

    Raises:
        UserError: as `load_config`.
    """
    return editable(load_config(argument))
