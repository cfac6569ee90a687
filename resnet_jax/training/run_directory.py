"""The run directory: the contract between training and all that reads its results.

    config.json       the full config
    data.json         name, splits, class names, image shape, mean and std of the data
    status.json       state, step, saved step, total steps, versions, devices, error (see `write_status`)
    metrics.jsonl     one JSON object a line: `event` (train, eval), `step`, `epoch`, and numbers
    checkpoints/      Orbax; one directory a step
    damaged/          what a resumed run found damaged and replaced
    tensorboard/      event files, where `log.tensorboard` is set
    profile/          traces of steps (`train --profile`)
    .lock             the process that trains here holds a lock on it
    .origin           whose run this is (`resnet_jax/origin.py`)

The JSON files are replaced atomically and metrics.jsonl grows by whole lines, so the directory can be
read while the run goes on, and copied. This module imports no JAX.
"""

import datetime
import errno
import functools
import importlib.metadata
import itertools
import json
import platform
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from resnet_jax import origin
from resnet_jax.config import (
    FIELDS,
    Config,
    canonical,
    differences,
    flatten,
    override,
    respell,
)
from resnet_jax.errors import UserError
from resnet_jax.files import PARTIAL, flush, make_directory, open_file, write_file
from resnet_jax.strict_json import from_json, is_finite, read_json, to_json
from resnet_jax.training.data_changes import data_changes
from resnet_jax.training.intervals import count_due, is_due
from resnet_jax.training.lock import Lock
from resnet_jax.training.named_paths import PATHS, paths_of, refuse, unnamed
from resnet_jax.training.stored_facts import check_config, check_data, check_line, check_status
from resnet_jax.wording import first_few

# After so long a network file system shows what another machine wrote.
SEEN_SECONDS = 60
# Bytes of metrics.jsonl, some seven million lines; and of a line, of which the rest counts as another.
LARGEST_LOG, LONGEST_LINE = 2**30, 2**16
# What an evaluated image is; a log has one protocol, and a command that reads a run may take another.
PROTOCOL = [name for name, field in FIELDS.items() if field.protocol]
STATES = ("running", "done", "interrupted", "preempted", "stopped", "diverged", "failed")


@functools.cache
def _versions() -> dict[str, str]:
    packages = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in packages
    }


class RunDirectory:
    """Reads and writes one run directory.

    Args:
        path: need not exist yet.
        writes: what is written goes to disk; of several processes only the first one's does.
    """

    def __init__(self, path: str | Path, writes: bool = True) -> None:
        self.path, self.writes = Path(path), writes
        self.checkpoints = self.path / "checkpoints"
        self.tensorboard = self.path / "tensorboard"
        self.profile = self.path / "profile"
        self._metrics = self.path / "metrics.jsonl"
        self._lock = Lock(self.path / ".lock")
        self._unconfirmed: dict[str, Any] = {}

    def claim(self, config: Mapping[str, Any]) -> None:
        """Check that a run of `config` may use the directory; lock it where it holds one already.

        Raises:
            UserError: it belongs to another config or process, is no run directory, or cannot be
                written.
        """
        if not self.writes:
            return
        if self.path.exists() and not self.path.is_dir():
            raise self._refused("is no directory")
        if (self.path / "config.json").exists():
            lines = differences(_complete(self.read_config()), json.loads(json.dumps(config)))
            if lines:
                raise self._refused(
                    f"holds a run of another config: {'; '.join(lines)}",
                    "use another directory, or that run's config",
                )
            self.lock()
            return
        # A status alone is that of a run whose process died before it began. Hidden are our lock, files
        # that a kill left half written, and those of file systems.
        if self._others():
            problem, fix = self._something_else() or ("is not empty and holds no run", "")
            raise self._refused(problem, fix or "use a new directory")

    def create(self, config: Mapping[str, Any]) -> None:
        """Make the directory for a run of `config` and lock it, or check that it is of that config.

        Raises:
            UserError: as `claim`.
        """
        if not self.writes:
            return
        self.claim(config)
        self.make()
        self.lock()
        if not (self.path / "config.json").exists():
            self._write_json("config.json", config)
        named = paths_of(config)
        with self._writing():
            origin.sign(self.path, named if named == paths_of(self.read_config()) else None)

    def make(self) -> None:
        """Make the directory where it does not exist.

        Raises:
            UserError: it cannot be made.
        """
        with self._writing():
            make_directory(self.path)

    def wait_until_seen(self) -> None:
        """Wait until the directory that the first process made is seen by this one, as by NFS's cache.

        Raises:
            UserError: it is not.
        """
        end = time.monotonic() + SEEN_SECONDS
        while not (self.path / "config.json").exists():
            if time.monotonic() > end:
                problem = f"is not seen on {socket.gethostname()}, but where the first process runs"
                raise self._refused(problem, "use a directory that all processes see")
            time.sleep(0.1)

    def lock(self) -> None:
        """Keep other processes from training here until `unlock` or the end of this one.

        Raises:
            UserError: one does, or the directory cannot be written.
        """
        if not self.writes:
            return
        with self._writing():
            self._lock.acquire()
            for left_by_a_kill in self.path.glob(PARTIAL):
                left_by_a_kill.unlink(missing_ok=True)

    def unlock(self) -> None:
        """Let others train here."""
        self._lock.release()

    def set_aside(self, path: Path) -> Path:
        """Move something corrupt into `damaged/`; returns where to.

        Raises:
            UserError: it cannot be moved.
        """
        with self._writing():
            moved = self._free(path.name)
            path.rename(moved)
        return moved

    def _free(self, name: str) -> Path:
        folder = self.path / "damaged"
        folder.mkdir(exist_ok=True)
        suffixes = itertools.chain([""], (f".{number}" for number in itertools.count(2)))
        paths = (folder / f"{name}{suffix}" for suffix in suffixes)
        return next(path for path in paths if not path.exists())

    def _refused(self, problem: str, fix: str = "use another directory") -> UserError:
        return UserError("--workdir", str(self.path), problem, fix)

    def _others(self) -> set[str]:
        return {path.name for path in self.path.glob("[!.]*")} - {"status.json"}

    def _something_else(self) -> tuple[str, str] | None:
        """What a directory is that is not a run's, and which one to give; None: neither is known."""
        if (self.path / "config.json").exists():
            return None
        if not self.path.exists():
            return "does not exist", "give the directory of a run, or run `train` first"
        if (self.path.parent / "config.json").exists():
            return "is a part of a run directory", f"give the run: {self.path.parent}"
        if self._others() and (self.path / "status.json").exists():
            fix = "put it back, or remove the directory to train from the start"
            return "is of a run that has lost its config.json", fix
        is_sweep = (self.path / "sweep.json").exists()
        folder = self.path / "runs" if is_sweep else self.path
        runs = first_few(sorted(path.parent for path in folder.glob("*/config.json")))
        if is_sweep:
            return "is a sweep, not a run", f"give one of its runs: {runs or folder / 'ID'}"
        return ("is a folder of runs, not a run", f"give one of them: {runs}") if runs else None

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> UserError:
        fix = "make it writable and run the same command again, or use another directory"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            fix = "make room there (`df -h`, or for more files `df -i`) and run the same command again"
        return self._refused(f"cannot be written ({error.strerror or error})", fix)

    def read_config(self) -> dict[str, Any]:
        """The config of the run, in canonical spelling.

        Raises:
            UserError: nothing was trained here, the file is corrupt, or the directory may come from
                somebody else and has links to outside of it.
        """
        origin.refuse_links(self.path)
        return respell(self._read_json("config.json", check_config))

    def load_config(self, overrides: Mapping[str, Any]) -> Config:
        """The config of the run, with fields changed that say where it runs or how it is evaluated.

        Paths of a config that the user did not name are another's: `data.cache_dir` is left out, and
        `refuse_unconfirmed` refuses the others. To repeat one in `overrides` is to name it.

        Raises:
            UserError: as `read_config`; or an override that changes what was trained.
        """
        config = override(Config(), flatten(self.read_config()))
        stated = flatten(config.to_dict())
        changeable = [
            name for name, field in FIELDS.items() if field.runtime_only or field.protocol
        ]
        for name in overrides:
            if name not in FIELDS or name in changeable:
                continue
            if name not in PATHS or canonical(name, overrides[name]) != stated[name]:
                problem = f"belongs to the run; only these may change: {', '.join(changeable)}"
                raise UserError(f"--config.{name}", overrides[name], problem)
        self._unconfirmed = unnamed(self.path, config.to_dict(), overrides)
        ignored = {"data.cache_dir": None} if "data.cache_dir" in self._unconfirmed else {}
        return override(config, {**ignored, **overrides})

    def refuse_unconfirmed(self, *fields: str) -> None:
        """Refuse paths that another's config names. Called by whatever is about to read them.

        Args:
            fields: of paths, after `load_config`.

        Raises:
            UserError: names the first, and how to confirm all.
        """
        refuse(self.path, {name: p for name, p in self._unconfirmed.items() if name in fields})

    def has_checkpoint(self) -> bool:
        """Whether a complete checkpoint is there."""
        return bool(self.checkpoint_steps())

    def checkpoint_steps(self) -> set[int]:
        """Steps of the complete checkpoints; Orbax gives others another kind of name."""
        directories = (path.name for path in self.checkpoints.glob("*") if path.is_dir())
        return {int(name) for name in directories if re.fullmatch("0|[1-9][0-9]{0,9}", name)}

    def state_when_over(self) -> str | None:
        """`diverged` or `stopped` where the run ended for good before its last step, else None."""
        try:
            state = self.read_status().get("state")
        except UserError:
            # None yet, or a damaged one: the run is trained to see.
            return None
        return state if state in ("diverged", "stopped") else None

    def read_data(self) -> dict[str, Any]:
        """Facts about the data, written by `write_data`.

        Raises:
            UserError: there is no such file, or it is corrupt.
        """
        return self._read_json("data.json", check_data)

    def read_status(self) -> dict[str, Any]:
        """The status, written by `write_status`.

        Earlier versions wrote `done` where the last evaluation was not finite: it reads as `diverged`.
        """
        status = self._read_json("status.json", check_status)
        if not is_finite(status.get("result")):
            del status["result"]
            status |= {"state": "diverged", "error": "the evaluation is not finite"}
        return status

    def stored_data(self) -> dict[str, Any] | None:
        """Facts about the data with which a run resumes; None where it starts."""
        resumes = self.has_checkpoint() and (self.path / "data.json").exists()
        return self.read_data() if resumes else None

    def write_data(self, facts: Mapping[str, Any]) -> None:
        """Write data.json, or check it where the run resumes.

        Raises:
            UserError: the run resumes, and began with other data.
        """
        stored = self.stored_data() if self.writes else None
        if stored is None:
            self._write_json("data.json", facts)
            return
        if changes := data_changes(stored, facts):
            problem = f"began with other data: {'; '.join(changes)}"
            raise self._refused(problem, "put them back as they were, or use another directory")

    def write_status(self, state: str, step: int, total_steps: int, **facts: Any) -> None:
        """Write status.json.

        Args:
            state: one of `STATES`.
            step: optimiser steps done.
            total_steps: of the whole run.
            **facts: also `devices`, `error`, the final metrics, …
        """
        assert state in STATES, state
        status = {
            "state": state,
            "step": step,
            "total_steps": total_steps,
            "updated": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "versions": _versions(),
            **facts,
        }
        self._write_json("status.json", status)

    def log(self, event: str, step: int, **numbers: Any) -> dict[str, Any]:
        """Append a line to metrics.jsonl and return it."""
        line = {"event": event, "step": step, **numbers}
        if not self.writes:
            return line
        with self._writing(), self._metrics.open("a", encoding="utf-8") as file:
            file.write(to_json(line) + "\n")
        return line

    def flush_log(self) -> None:
        """Wait until metrics.jsonl is on the disk.

        Raises:
            UserError: it cannot be written.
        """
        if self.writes and self._metrics.exists():
            with self._writing():
                flush(self._metrics)
                flush(self.path)

    def read_metrics(self) -> Iterator[dict[str, Any]]:
        """The lines of metrics.jsonl; a last line cut short by a crash is left out.

        Raises:
            UserError: another line cannot be read.
        """
        for number, line in enumerate(self._lines(), 1):
            if line is None:
                where, problem = str(self._metrics), f"line {number} cannot be read"
                fix = "delete that line, or run `train`, which does"
                raise UserError("metrics.jsonl", where, problem, fix)
            yield line

    def readable_metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl that can be read."""
        return [line for line in self._lines() if line is not None]

    def _lines(self) -> Iterator[dict[str, Any] | None]:
        try:
            with open_file(self._metrics, LARGEST_LOG) as file:
                while (raw := file.readline(LONGEST_LINE)).endswith(b"\n") or len(
                    raw
                ) == LONGEST_LINE:
                    line = metrics_line(raw)
                    # Earlier versions wrote evaluations that were not finite: they are no results.
                    if is_finite(line):
                        yield line
        except FileNotFoundError:
            return
        except OSError as error:
            problem = f"cannot be read ({error.strerror or error})"
            raise UserError("metrics.jsonl", str(self._metrics), problem) from error

    def forget_after(self, step: int) -> int:
        """Drop the lines of metrics.jsonl behind `step`, which a resumed run writes again.

        Returns:
            How many others could not be read; the file as it was is then in `damaged/`.
        """
        if not self.writes:
            return 0
        lines = list(self._lines())
        unreadable = lines.count(None)
        if unreadable:
            with self._writing():
                shutil.copyfile(self._metrics, self._free(self._metrics.name))
        if self._metrics.exists():
            kept = [line for line in lines if line is not None and line["step"] <= step]
            self._write("metrics.jsonl", "".join(to_json(line) + "\n" for line in kept))
        return unreadable

    def _read_json(self, name: str, check: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        path = self.path / name
        try:
            content = read_json(path)
            check(content)
            return _Facts(content, path)
        except FileNotFoundError as error:
            problem, fix = self._something_else() or (
                f"holds no {name}: nothing was trained there",
                "give the directory of a run, or run `train` first",
            )
            raise self._refused(problem, fix) from error
        except (ValueError, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError("--workdir", str(path), f"cannot be read ({reason})") from error

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        self._write(name, to_json(content, indent=2) + "\n")

    def _write(self, name: str, text: str) -> None:
        if not self.writes:
            return
        with self._writing():
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


def _complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config with defaults for the fields that an earlier version had not."""
    complete = Config().to_dict()
    for name, section in config.items():
        if isinstance(section, Mapping) and isinstance(complete.get(name), Mapping):
            complete[name] |= section
        else:
            complete[name] = section
    return complete


def metrics_line(raw: bytes) -> dict[str, Any] | None:
    """A line of metrics.jsonl; None where it cannot be read."""
    try:
        line = from_json(raw)
        check_line(line)
    except ValueError:
        return None
    return line


def missing_lines(
    lines: Iterable[Mapping[str, Any]], step: int, every: float, is_end: bool = False
) -> str:
    """What metrics.jsonl lacks of its train lines up to a step, in words; empty: nothing.

    Args:
        lines: of the file.
        step: that the run has reached.
        every: steps between two lines.
        is_end: the run ended there, which is a line too.
    """
    logged = {line["step"] for line in lines if line["event"] == "train" and line["step"] <= step}
    last = max(logged, default=0)
    if count_due(step, every) > count_due(last, every) or (is_end and last < step):
        return f"metrics.jsonl ends at step {last} of {step}"
    missing = count_due(step, every) - sum(is_due(one, every) for one in logged)
    return f"metrics.jsonl lacks {missing} train lines before step {last}" if missing else ""


def evaluations(lines: Iterable[Mapping[str, Any]]) -> dict[int, dict[str, Any]]:
    """Step → result of its evaluation, from lines of metrics.jsonl."""
    where = ("event", "step", "epoch")
    return {
        line["step"]: {name: value for name, value in line.items() if name not in where}
        for line in lines
        if line["event"] == "eval"
    }
