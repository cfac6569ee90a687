"""One process at a time trains in a directory."""

import errno
import fcntl
import os
import socket
from pathlib import Path
from typing import IO

from resnet_jax.errors import UserError

# What file systems without locks answer, such as some Lustre mounts: there nothing is refused.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def open_lock(path: Path) -> IO[str]:
    """A file to lock, for reading and appending; a link is not followed, and a pipe not waited for.

    Raises:
        OSError: it cannot be written.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    return open(os.open(path, flags, 0o666), "a+", encoding="utf-8")


class Lock:
    """A lock on a file, which any death of the process releases. The file stays.

    Args:
        path: of the file; its directory exists.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Take it; nothing happens where this object has it already.

        Raises:
            UserError: another process has it.
            OSError: the file cannot be written.
        """
        if self._file is not None:
            return
        file = open_lock(self._path)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            directory = str(self._path.parent)
            problem = f"{holder} is training there"
            raise UserError(
                "--workdir", directory, problem, "wait until it has ended, or stop it"
            ) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                file.close()
                raise
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        self._file = file

    def release(self) -> None:
        """Let it go; nothing happens where this object has it not."""
        if self._file is not None:
            self._file.close()
            self._file = None
