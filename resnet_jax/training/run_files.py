"""The files of a run directory: read with clear errors, replaced whole. This module imports no JAX."""

import errno
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from resnet_jax import strict_json
from resnet_jax.errors import UserError
from resnet_jax.files import write_file
from resnet_jax.strict_json import to_json
from resnet_jax.wording import first_few


class RunFiles:
    """Reads and writes JSON files of one run directory.

    Args:
        path: need not exist yet.
        writes: False: nothing is written.
    """

    def __init__(self, path: Path, writes: bool = True) -> None:
        self.path, self.writes = path, writes

    def refused(self, problem: str, fix: str = "use another directory") -> UserError:
        """An error about the directory."""
        return UserError("--workdir", str(self.path), problem, fix)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A context whose `OSError` says that the directory cannot be written."""
        try:
            yield
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> UserError:
        fix = "make it writable and run the same command again, or use another directory"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            fix = "make room there (`df -h`, or for more files `df -i`) and run the same command again"
        return self.refused(f"cannot be written ({error.strerror or error})", fix)

    def read_json(self, name: str, check: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """The object in a file, in which an entry that it lacks is an error of the file.

        Args:
            name: of the file.
            check: raises ValueError where the object is not as this package writes it.

        Raises:
            UserError: there is no such file, or it is corrupt.
        """
        path = self.path / name
        try:
            content = strict_json.read_json(path)
            check(content)
            return _Facts(content, path)
        except FileNotFoundError as error:
            problem, fix = what_else(self.path) or (
                f"holds no {name}: nothing was trained there",
                "give the directory of a run, or run `train` first",
            )
            raise self.refused(problem, fix) from error
        except (ValueError, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError("--workdir", str(path), f"cannot be read ({reason})") from error

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Replace a file by a JSON object."""
        self.write(name, to_json(content, indent=2) + "\n")

    def write(self, name: str, text: str) -> None:
        """Replace a file by a text."""
        if not self.writes:
            return
        with self.writing():
            write_file(self.path / name, text)


class _Facts(dict[str, Any]):
    """What a file holds; an entry that it lacks is an error of the file."""

    def __init__(self, content: Mapping[str, Any], path: Path) -> None:
        super().__init__(content)
        self._path = path

    def __missing__(self, name: str) -> Any:
        raise UserError("--workdir", str(self._path), f"has no {name!r}", "put it back from a copy")

    def __reduce__(self) -> tuple[Any, ...]:
        return _Facts, (dict(self), self._path)


def other_names(path: Path) -> set[str]:
    """The names in a directory, without hidden files and the status of a run that died before it began."""
    return {path.name for path in path.glob("[!.]*")} - {"status.json"}


def what_else(path: Path) -> tuple[str, str] | None:
    """What a directory is that is not a run's, and which one to give; None: neither is known."""
    if (path / "config.json").exists():
        return None
    if not path.exists():
        return "does not exist", "give the directory of a run, or run `train` first"
    if (path.parent / "config.json").exists():
        return "is a part of a run directory", f"give the run: {path.parent}"
    if other_names(path) and (path / "status.json").exists():
        fix = "put it back, or remove the directory to train from the start"
        return "is of a run that has lost its config.json", fix
    is_sweep = (path / "sweep.json").exists()
    folder = path / "runs" if is_sweep else path
    runs = first_few(sorted(path.parent for path in folder.glob("*/config.json")))
    if is_sweep:
        return "is a sweep, not a run", f"give one of its runs: {runs or folder / 'ID'}"
    return ("is a folder of runs, not a run", f"give one of them: {runs}") if runs else None
