"""Files: replaced whole or not at all, so that a power cut takes nothing back; and read within bounds."""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

# Of files being written, as a glob: a killed process leaves them behind.
PARTIAL = ".*.partial"


@contextmanager
def replaced(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write, which replaces `path` at the end; after an error, `path` is as it was.

    The new content and its name are on the disk when the context ends. A symbolic link at `path` is
    replaced, not followed. The mode is the umask's.

    Raises:
        OSError: `path` cannot be written.
    """
    path = Path(path)
    partial = path.with_name(PARTIAL.replace("*", secrets.token_hex(6)))
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    flush(path.parent)


def write_file(path: str | Path, content: bytes | str) -> None:
    """Replace a file as `replaced` does.

    Args:
        path: of the file.
        content: text is written as UTF-8; what that lacks, as a backslash escape.

    Raises:
        OSError: `path` cannot be written.
    """
    if isinstance(content, str):
        content = content.encode("utf-8", "backslashreplace")
    with replaced(path) as file:
        file.write(content)


@contextmanager
def open_file(path: str | Path, largest: int | None = None) -> Iterator[BufferedReader]:
    """Open a regular file to read it.

    Pipes, devices and the like are refused at once: to read one may wait for ever or never end.

    Args:
        path: of the file, or of a link to it.
        largest: size in bytes of files that are read; None: any.

    Raises:
        OSError: it cannot be read, is not a regular file, or is larger.
    """

    # Not blocking, as to open a pipe would wait for its writer.
    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NONBLOCK)

    with open(path, "rb", opener=opener) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "is not a regular file", str(path))
        if largest is not None and status.st_size > largest:
            problem = f"its {status.st_size:,} bytes are more than the {largest:,} that are read"
            raise OSError(errno.EFBIG, problem, str(path))
        yield file


def read_file(path: str | Path, largest: int) -> bytes:
    """The content of a file.

    Args:
        path, largest: as of `open_file`.

    Raises:
        OSError: as `open_file`.
    """
    with open_file(path, largest) as file:
        return file.read(os.fstat(file.fileno()).st_size)


def check_regular(directory: str | Path) -> None:
    """Refuse a directory with a pipe, a device or the like in it, for libraries that open what they find.

    Raises:
        OSError: names the first.
    """
    for folder, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.exists(path) and not os.path.isfile(path):
                raise OSError(errno.EINVAL, "is not a regular file", path)


def make_directory(path: Path) -> None:
    """Make a directory and its parents where they do not exist; all are on the disk afterwards.

    Raises:
        OSError: one cannot be made.
    """
    missing = [parent for parent in (path, *path.parents) if not parent.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for directory in missing:
        flush(directory.parent)


def flush(path: Path) -> None:
    """Wait until a file, or the names in a directory, are on the disk.

    Raises:
        OSError: they cannot be written.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot do it for a directory.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def flush_tree(directory: Path) -> None:
    """Wait until all files and directories of a directory, and itself, are on the disk.

    Raises:
        OSError: they cannot be written.
    """
    for folder, _, names in os.walk(directory, topdown=False):
        for name in names:
            flush(Path(folder, name))
        flush(Path(folder))
