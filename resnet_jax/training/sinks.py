"""Where the lines of a run's metrics go: metrics.jsonl, and anything else with two methods."""

import contextlib
import importlib.util
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from resnet_jax.errors import UserError, warn
from resnet_jax.training.run_directory import RunDirectory


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


def check_installed() -> None:
    """Raises UserError where the extra is missing."""
    if importlib.util.find_spec("tensorboardX") is None:
        raise UserError(
            "log.tensorboard",
            True,
            "needs tensorboardX",
            "run `pip install 'resnet-jax[tensorboard]'` or set it to False",
        )


class TensorBoard:
    """Writes lines of metrics.jsonl as scalars named `event/number`.

    Where they cannot be written, a warning says so once: metrics.jsonl has the same numbers.

    Args:
        directory: of the event files.
        step: from which the run resumes; TensorBoard hides later events.
    """

    def __init__(self, directory: Path, step: int) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._writer: EventsWriter | None = None
        with self._errors_end_it():
            directory.mkdir(parents=True, exist_ok=True)
            # Of a relative path, what stands before a colon is read as the scheme of a URL. The
            # package's SummaryWriter has a thread, and waits without end when that fails.
            self._writer = EventsWriter(str(directory.absolute() / "events"))
            start = SessionLog(status=SessionLog.START)
            self._writer.write_event(Event(step=step + 1, session_log=start))
            self._writer.flush()

    def write(self, line: Mapping[str, Any]) -> None:
        """Write the numbers of a line."""
        if self._writer is None:
            return
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        with self._errors_end_it():
            for name, value in line.items():
                if isinstance(value, int | float) and name != "step":
                    summary = scalar(f"{line['event']}/{name}", value)
                    event = Event(wall_time=time.time(), step=line["step"], summary=summary)
                    self._writer.write_event(event)
            self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            with self._errors_end_it():
                self._writer.close()

    @contextlib.contextmanager
    def _errors_end_it(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._writer = None
            warn(f"no more events for TensorBoard: they cannot be written ({error.strerror})")
