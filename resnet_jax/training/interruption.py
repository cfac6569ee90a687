"""Signals: finish the step, save, and only then stop."""

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

# Exit code and state of status.json for each signal.
SIGNALS: dict[int, tuple[int, str]] = {
    signal.SIGINT: (130, "interrupted"),
    signal.SIGTERM: (143, "preempted"),
}


class StopRequest:
    """A context in which SIGINT and SIGTERM are noted in `signal` instead of ending the process.

    A second SIGINT ends it at once.

    Args:
        at_once: until `defer` is called, while there is nothing to save, the first signal ends the
            process on the spot.

    Attributes:
        signal: the one that came last.
        answered: whether the work has looked at it, and ends.
        last_words: called with the state of `SIGNALS` before the process ends on the spot.
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

    def __enter__(self) -> "StopRequest":
        for number in SIGNALS:
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        first, self.signal = self.signal is None, number
        if first and self._at_once:
            exit_code, state = SIGNALS[number]
            # An exception would pass through native code: while JAX is imported that crashes.
            try:
                self.last_words(state)
            finally:
                os._exit(exit_code)
        if not first and number == signal.SIGINT:
            raise KeyboardInterrupt
