"""Signals: finish the step, save, and only then stop."""

import signal
from types import FrameType
from typing import Any

# Exit code and state of status.json for each signal.
SIGNALS: dict[int, tuple[int, str]] = {
    signal.SIGINT: (130, "interrupted"),
    signal.SIGTERM: (143, "preempted"),
}


class Stopped(KeyboardInterrupt):
    """A signal ends what goes on at once.

    Args:
        number: of the signal.

    Attributes:
        exit_code, state: of `SIGNALS`.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code, self.state = SIGNALS[number]


class StopRequest:
    """A context in which SIGINT and SIGTERM are noted in `signal` instead of ending the process.

    A second SIGINT raises `Stopped`.

    Args:
        at_once: until `defer` is called the first signal raises `Stopped` too: nothing is to save yet.
    """

    def __init__(self, at_once: bool = False) -> None:
        self.signal: int | None = None
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
        first = self.signal is None
        self.signal = number
        if self._at_once if first else number == signal.SIGINT:
            raise Stopped(number)
