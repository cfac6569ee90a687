"""Standard output and error: they take any text in any encoding, and may fail. Progress."""

import contextlib
import errno
import io
import os
import select
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

from resnet_jax.errors import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

STDOUT, STDERR = 1, 2
# Progress waits so long for a reader that has stopped reading, as a pager does.
PATIENCE_SECONDS = 10.0
# Between two lines of progress outside of a terminal.
LINE_SECONDS = 30.0
# What a shell reports of a program that SIGPIPE ended; Python ignores that signal.
BROKEN_PIPE = 141


class Output(io.FileIO):
    """Standard output or error, whose first error is kept and not raised.

    Args:
        descriptor: `STDOUT` or `STDERR`.

    Attributes:
        error: the first one, after which nothing is written. None: there was none.
        progress: text may be lost. Then an error of stdout is only a warning, and text is dropped
            while the reader has read nothing for `PATIENCE_SECONDS`.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.error: OSError | None = None
        self.progress = False
        self._stalled = False

    def write(self, data: Any) -> int:
        """Write some of the bytes; returns how many, or the number of all where they are lost."""
        if self.error is not None:
            return len(data)
        try:
            if not self._ready():
                return len(data)
            # More than that may block, and then no signal is answered. None: it would block.
            return super().write(memoryview(data)[: select.PIPE_BUF]) or 0
        except OSError as error:
            self.error = error
            if self.progress and self.fileno() == STDOUT:
                _warn_of_loss(error)
            return len(data)

    def _ready(self) -> bool:
        """Wait until some bytes can be written; returns whether they can."""
        seconds = (0.0 if self._stalled else PATIENCE_SECONDS) if self.progress else None
        _, ready, _ = select.select([], [self], [], seconds)
        self._stalled = not ready
        return not self._stalled


def _warn_of_loss(error: OSError) -> None:
    text = f"warning: standard output cannot be written ({error.strerror}): going on without it\n"
    # A bar of Rich has put a stream in the place of sys.stderr that leads to this one.
    with contextlib.suppress(OSError):
        os.write(STDERR, text.encode())


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """A context in which no print to stdout or stderr raises; see `Output` and `escape_unencodable`.

    Streams that another program has put in their place have its errors.
    """
    before = sys.stdout, sys.stderr
    _open_closed()
    escape_unencodable()
    sys.stdout, sys.stderr = _kept(sys.stdout, STDOUT), _kept(sys.stderr, STDERR)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


def _open_closed() -> None:
    """Open /dev/null where a standard stream is closed: else the next file gets its number."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _kept(stream: Any, descriptor: int) -> TextIO:
    """The same stream, written by an `Output`; Python's is None where it was closed."""
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")
    if stream not in (sys.__stdout__, sys.__stderr__) or not isinstance(stream, io.TextIOWrapper):
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(Output(descriptor)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering or stream.write_through,
    )


def _output(stream: Any) -> Output | None:
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, Output) else None


def print_progress() -> None:
    """From here on, text that is printed may be lost: files contain the results."""
    for output in map(_output, (sys.stdout, sys.stderr)):
        if output is not None:
            output.progress = True


def exit_code(code: int) -> int:
    """The exit code of a command that ends with `code`; another one where its result is lost.

    A reader who leaves early, such as `head`, gets no message.
    """
    sys.stdout.flush()
    output = _output(sys.stdout)
    if code or output is None or output.progress or output.error is None:
        return code
    if output.error.errno == errno.EPIPE:
        return BROKEN_PIPE
    reason = output.error.strerror or output.error
    print(
        f"error: standard output cannot be written ({reason}): the result is lost", file=sys.stderr
    )
    return 2


def escape_unencodable() -> None:
    r"""Make stdout and stderr print what their encoding lacks as an escape.

    Under `LC_ALL=C` or `PYTHONIOENCODING=ascii`, `±` is printed as `\xb1`.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def make_console(**options: Any) -> "Console":
    """A console of Rich that prints text unchanged: no markup, no emoji codes.

    Args:
        **options: of `rich.console.Console`. By default, lines of a pipe are not wrapped.
    """
    from rich.console import Console

    defaults = {"soft_wrap": not sys.stdout.isatty()}
    return Console(markup=False, emoji=False, highlight=False, **defaults | options)


class Bar:
    """How far a long computation is: a bar on a terminal, a line now and then elsewhere.

    Args:
        label: what is computed; empty: nothing is shown.
        total: number of items.
    """

    def __init__(self, label: str, total: int) -> None:
        self._label, self._total, self._printed = label, total, time.monotonic()
        self._bar: Progress | None = None
        console = make_console(stderr=True)
        if label and console.is_terminal:
            from rich import progress

            columns = (
                progress.TextColumn("{task.description}", markup=False),
                progress.BarColumn(),
                progress.MofNCompleteColumn(),
                progress.TimeRemainingColumn(),
            )
            self._bar = progress.Progress(*columns, console=console, transient=True)
            self._task = self._bar.add_task(printable(label), total=total)

    def __enter__(self) -> "Bar":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def move(self, done: int) -> None:
        """`done` items are done."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done)
        elif self._label and time.monotonic() - self._printed > LINE_SECONDS:
            self._printed = time.monotonic()
            text = f"{printable(self._label)}: {done} of {self._total}"
            print(text, file=sys.stderr, flush=True)
