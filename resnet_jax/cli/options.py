"""What several commands have in common: options, and words of their help."""

from collections.abc import Mapping

from resnet_jax.cli.parser import Add
from resnet_jax.errors import UserError
from resnet_jax.paths import local_path

CONFIG = "e.g. configs/cifar10.py"
STEP = "latest, best, or the number of a checkpoint"
JSON = "print one JSON object"


def add_workdir(option: Add, what: str = "the run directory") -> None:
    """Add `--workdir`, which is required."""
    option("--workdir", metavar="DIR", type=local_path("--workdir"), required=True, help=what)


def refuse_overrides(overrides: Mapping[str, str], command: str) -> None:
    """Refuse `--config.FIELD=VALUE` for a command that takes no config.

    Raises:
        UserError: there are some.
    """
    if overrides:
        raise UserError("argument", f"--config.{next(iter(overrides))}", f"is unknown to {command}")
