"""One process at a time works in a directory."""

import errno
import fcntl
import os
import socket
from pathlib import Path
from typing import IO

# What file systems without locks answer, such as some Lustre mounts.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class Lock:
    """A lock on a file, which any death of the process releases. The file stays.

    Args:
        path: of the file; its directory exists.

    Attributes:
        holder: the other process that had it when it could not be taken, in words.
    """

    def __init__(self, path: Path) -> None:
        self._path, self.holder = path, "another process"
        self._file: IO[str] | None = None

    @property
    def held(self) -> bool:
        """Whether this object has it."""
        return self._file is not None

    def acquire(self, needed: bool = True, wait: bool = False) -> bool:
        """Take it; nothing happens where this object has it already.

        Args:
            needed: False: where the file system has no locks it counts as taken.
            wait: until the other process releases it.

        Returns:
            Whether this object has it; else another process does.

        Raises:
            OSError: the file cannot be written or locked.
        """
        if self._file is not None:
            return True
        file = _opened(self._path)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            file.seek(0)
            self.holder = file.read().strip() or self.holder
            file.close()
            return False
        except OSError as error:
            if needed or error.errno not in NO_LOCKS:
                file.close()
                raise
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        self._file = file
        return True

    def fileno(self) -> int:
        """The descriptor of the file; a process that inherits it holds the lock too."""
        assert self._file is not None
        return self._file.fileno()

    def release(self) -> None:
        """Let it go; nothing happens where this object does not have it."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _opened(path: Path) -> IO[str]:
    # A link is not followed, and a pipe not waited for.
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    return open(os.open(path, flags, 0o666), "a+", encoding="utf-8")
