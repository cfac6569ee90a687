"""A trace of some steps, which TensorBoard (with xprof) and Perfetto open."""

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from resnet_jax.errors import UserError, printable, warn
from resnet_jax.training.open_directory import OpenDirectory


def steps_to_profile(text: str, total_steps: int) -> range:
    """The steps of `--profile=START:STOP`: those after START steps, up to STOP.

    Raises:
        UserError: no such steps.
    """
    match = re.fullmatch(r"(\d+):(\d+)", text)
    if not match:
        raise UserError("--profile", text, "is no range of steps", "write START:STOP, e.g. 10:15")
    start, stop = map(int, match.groups())
    if not start < stop <= total_steps:
        raise UserError("--profile", text, f"must be rising and end at most at {total_steps}")
    return range(start, stop)


class Profile:
    """Traces the training of some steps into a directory.

    Args:
        directory: each trace is a folder of it.
        steps: which; a call that runs several steps is traced where it begins at one of them.
        say: prints where the trace was written.

    Attributes:
        begun: a trace was.
    """

    def __init__(self, directory: Path, steps: range, say: Callable[[str], None]) -> None:
        self.directory, self.steps, self._say = directory, steps, say
        self.begun = False
        self._open: OpenDirectory | None = None

    @contextlib.contextmanager
    def around(self, step: int, length: int, wait: Callable[[], Any]) -> Iterator[None]:
        """A context for the call of the `length` steps from `step` on, traced if it begins at one of the steps.

        Args:
            step: steps done before the call.
            length: of the call.
            wait: waits until the devices have nothing to do.
        """
        if step not in self.steps:
            yield
            return
        if self._open is None:
            # Work that was under way before does not belong to the steps.
            wait()
            with self._errors_end_it():
                self._open = OpenDirectory(self.directory, create=True)
                jax.profiler.start_trace(self._open.path, create_perfetto_trace=True)
            self.begun = True
        with jax.profiler.StepTraceAnnotation("train", step_num=step):
            yield
        if self._open is not None and step + length not in self.steps:
            wait()
            if self.close():
                self._say(f"wrote a trace to {printable(self.directory)}")

    def close(self) -> bool:
        """End the trace where one is being taken; returns whether it is written."""
        if self._open is None:
            return False
        with contextlib.closing(self._open), self._errors_end_it():
            jax.profiler.stop_trace()
        written, self._open = self._open is not None, None
        return written

    @contextlib.contextmanager
    def _errors_end_it(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError, UserError) as error:
            reason = str(error) if self._open is None else self._open.in_words(str(error))
            warn(f"no trace: it cannot be written ({reason})")
            self.steps, self._open = range(0), None
