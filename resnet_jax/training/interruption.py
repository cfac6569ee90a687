"""Signals: finish the step, save, and only then stop."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

# State of status.json → the signals of a terminal, and of schedulers and limits.
_NAMES = {
    "interrupted": ("SIGINT", "SIGQUIT", "SIGHUP"),
    "preempted": ("SIGTERM", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGALRM", "SIGPWR"),
}
# Exit code and state of status.json for each signal; not every system has all of them.
SIGNALS: dict[int, tuple[int, str]] = {
    int(signal.Signals[name]): (128 + signal.Signals[name], state)
    for state, names in _NAMES.items()
    for name in names
    if hasattr(signal, name)
}
# Those of keys: who presses one twice does not want to wait.
KEYS = (signal.SIGINT, signal.SIGQUIT)


class StopRequest:
    """A context in which the signals of `SIGNALS` are noted in `signal` instead of ending the process.

    A second one of the keyboard ends it at once. A signal that is ignored stays so, as SIGHUP under
    `nohup`, and so does the handler of another program for it. Threads get no signals: there nothing
    is noted.

    Args:
        at_once: until `defer` is called, while there is nothing to save, the first signal ends the
            process on the spot.

    Attributes:
        signal: the one that came last.
        answered: whether the work has looked at it, and ends.
        last_words: called with the state of `SIGNALS` before the process ends on the spot; see `saying`.
    """

    def __init__(self, at_once: bool = False) -> None:
        self.signal: int | None = None
        self.answered = False
        self.last_words: Callable[..., None] = lambda state, **facts: None
        self._at_once = at_once
        self._previous: dict[int, Any] = {}

    def defer(self) -> None:
        """From here on there is something to finish and save."""
        self._at_once = False

    @contextlib.contextmanager
    def saying(self, last_words: Callable[..., None]) -> Iterator[None]:
        """A context in which `last_words` are said before the process ends on the spot.

        Args:
            last_words: called with a state of status.json, and with further facts by name.
        """
        self.last_words, before = last_words, self.last_words
        try:
            yield
        finally:
            self.last_words = before

    def __enter__(self) -> "StopRequest":
        for number in SIGNALS:
            if _ends_the_process(number):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _note(self, number: int, _: FrameType | None) -> None:
        first, self.signal = self.signal is None, number
        if first and self._at_once:
            exit_code, state = SIGNALS[number]
            # An exception would pass through native code: while JAX is imported that crashes.
            try:
                self.last_words(state)
            finally:
                os._exit(exit_code)
        if not first and number in KEYS:
            raise KeyboardInterrupt


def _ends_the_process(number: int) -> bool:
    """Whether a signal would, in the thread that gets them; also where a `StopRequest` notes it."""
    if threading.current_thread() is not threading.main_thread():
        return False
    handler = signal.getsignal(number)
    ours = isinstance(getattr(handler, "__self__", None), StopRequest)
    return ours or handler in (signal.SIG_DFL, signal.default_int_handler)


@contextlib.contextmanager
def ended_at_once() -> Iterator[None]:
    """A context in which Ctrl-C ends the process as other signals do, at once and without a word.

    The exception that Python raises is lost where it passes through native code, as when JAX is
    imported.
    """
    taken = _ends_the_process(signal.SIGINT)
    previous = signal.signal(signal.SIGINT, signal.SIG_DFL) if taken else None
    try:
        yield
    finally:
        if taken:
            signal.signal(signal.SIGINT, previous)


@contextlib.contextmanager
def deferred() -> Iterator[StopRequest]:
    """A context at whose end a signal that came in it does what it would have done before."""
    with StopRequest() as stop:
        yield stop
    if stop.signal is not None:
        signal.raise_signal(stop.signal)


def end_with_parent(*_: Any) -> None:
    """In a process of `multiprocessing`: leave signals to the process that started this one.

    A signal to the whole group, such as Ctrl-C, would take from the parent what it needs to
    finish and save. This process ends when the parent has, by whatever.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
