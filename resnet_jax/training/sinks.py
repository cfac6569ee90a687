"""Where the lines of a run's metrics go, beside metrics.jsonl: anything with two methods."""

from collections.abc import Mapping
from typing import Any, Protocol

from resnet_jax.training.run_directory import RunDirectory


class Sink(Protocol):
    """Takes the lines of a run, in the order of its steps."""

    def write(self, line: Mapping[str, Any]) -> None:
        """Take a line: `event`, `step` and what else metrics.jsonl has."""

    def close(self) -> None:
        """The run is over for this process."""


class JsonLines:
    """metrics.jsonl.

    Args:
        run: its directory.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._run = run

    def write(self, line: Mapping[str, Any]) -> None:
        """Append a line."""
        self._run.write_line(line)

    def close(self) -> None:
        """Each line is written already."""
