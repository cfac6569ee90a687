"""Images per second and elapsed time."""

import time


class Clock:
    """Images per second between interruptions by evaluation, saving and compilation.

    Args:
        seconds_before: that the run took in earlier processes.
    """

    def __init__(self, seconds_before: float = 0.0) -> None:
        self._born = time.monotonic() - seconds_before
        self._since: float | None = None
        self._images = 0

    def restart(self) -> None:
        """Start a new interval now."""
        self._since, self._images = time.monotonic(), 0

    def add(self, images: int) -> None:
        """Count images; the first call only starts the clock, as it includes compilation."""
        if self._since is None:
            self.restart()
        else:
            self._images += images

    def rate(self) -> float:
        """Images per second since the interval began."""
        if self._since is None or not self._images:
            return 0.0
        return self._images / (time.monotonic() - self._since)

    def elapsed(self) -> float:
        """Seconds that the run has taken, including earlier processes."""
        return time.monotonic() - self._born
