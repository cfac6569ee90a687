"""Where the lines of a run's metrics go: metrics.jsonl, and anything else with two methods."""

from collections.abc import Mapping
from typing import Any, Protocol

from resnet_jax.training.run_directory import RunDirectory
from resnet_jax.training.tensorboard import TensorBoard


class Sink(Protocol):
    """Takes the lines of a run, in the order of its steps."""

    def write(self, line: Mapping[str, Any]) -> None:
        """Take a line: `event`, `step`, and the numbers and texts of metrics.jsonl."""

    def close(self) -> None:
        """The run is over for this process."""


def make_sinks(log: Any, run: RunDirectory, step: int) -> list[Sink]:
    """The sinks that a config asks for.

    Args:
        log: section `log` of the config.
        run: its directory.
        step: at which the run begins or resumes.
    """
    sinks: list[Sink] = [run.metrics]
    if log.tensorboard and run.writes:
        sinks.append(TensorBoard(run.tensorboard, step))
    return sinks
