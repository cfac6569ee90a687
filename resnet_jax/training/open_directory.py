"""A directory with a path that every library takes, whatever its name."""

import glob
import os
from pathlib import Path

from resnet_jax.errors import UserError
from resnet_jax.paths import is_utf8


class OpenDirectory:
    """A directory that is held open, and a path to it with nothing in it that a user wrote.

    Orbax globs paths without escaping them; TensorStore and JAX's profiler take UTF-8 alone; Orbax
    reads `..` as text and `/s3/…` as a bucket. `/proc/self/fd/N` names the directory by a number. All
    threads of the process can use it, and each process has its own; files are made, read and renamed
    in the directory itself, on whatever file system; a killed process leaves nothing behind.

    Args:
        directory: must exist, or `create`.
        create: make it where it does not exist.

    Attributes:
        path: to hand to libraries; valid until `close`.

    Raises:
        UserError: it cannot be made or opened; or this system has no /proc, and a library could not
            use the name as it is.
    """

    def __init__(self, directory: Path, create: bool = False) -> None:
        self._directory = directory
        try:
            if create:
                directory.mkdir(parents=True, exist_ok=True)
            self._descriptor: int | None = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        except (FileExistsError, NotADirectoryError) as error:
            raise self._refused("is not a directory", "move it away") from error
        except OSError as error:
            fix = "use another directory, or make room there (`df -h`, or for more files `df -i`)"
            raise self._refused(f"cannot be opened ({error.strerror})", fix) from error
        self.path = Path(f"/proc/self/fd/{self._descriptor}")
        if not self.path.is_dir():
            self.close()
            self.path = directory.resolve()
            self._refuse_unusable()

    def close(self) -> None:
        """Let the directory go; a second call does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def in_words(self, text: str) -> str:
        """Text of a library about `path`, with the name of the directory instead."""
        return text.replace(str(self.path), str(self._directory))

    def _refuse_unusable(self) -> None:
        name = str(self.path)
        fix = "use another name: this system has no /proc/self/fd"
        if glob.escape(name) != name:
            raise self._refused("contains *, ? or [, and could not be read back", fix)
        if not is_utf8(name):
            raise self._refused("is not UTF-8", fix)

    def _refused(self, problem: str, fix: str = "use another directory") -> UserError:
        return UserError("directory", str(self._directory), problem, fix)
