"""Memory that the process has freed and its C library keeps."""

import ctypes
import functools
from collections.abc import Callable


def give_back_freed_memory() -> None:
    """Let glibc give freed memory back to the system; elsewhere nothing happens.

    The threads that write a checkpoint free what they allocate, and glibc keeps about 0.3 MB of it
    more after every save of a small net.
    """
    if (trim := _malloc_trim()) is not None:
        trim(0)


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None
