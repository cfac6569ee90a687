"""The run directory: the contract between training and everything that reads its results.

    config.json       the full config
    data.json         name, splits, class names, image shape, mean and std of the data
    status.json       state, step, saved step, total steps, versions, devices, error (`status.py`)
    metrics.jsonl     one JSON object a line: `event` (train, eval), `step`, `epoch`, and numbers
    checkpoints/      Orbax; one directory a step
    damaged/          what a resumed run found corrupt and replaced
    tensorboard/      event files, where `log.tensorboard` is set
    profile/          traces of steps (`train --profile`)
    .lock             the process that trains here holds a lock on it
    .origin           whose run this is (`resnet_jax/origin.py`)

The JSON files are replaced atomically and metrics.jsonl grows by whole lines, so the directory can be
read while the run trains, and copied. This module imports no JAX.
"""

import itertools
import json
import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from resnet_jax import origin
from resnet_jax.config import Config, differences, respell
from resnet_jax.errors import UserError
from resnet_jax.files import PARTIAL, make_directory
from resnet_jax.strict_json import is_finite
from resnet_jax.training.data_changes import data_changes
from resnet_jax.training.lock import Lock
from resnet_jax.training.metrics_log import MetricsLog
from resnet_jax.training.run_config import complete, paths_of, refuse, with_overrides
from resnet_jax.training.run_files import RunFiles, other_names, what_else
from resnet_jax.training.status import make_status
from resnet_jax.training.stored_facts import check_config, check_data, check_status

# After so long a network file system shows what another machine wrote.
SEEN_SECONDS = 60


class RunDirectory:
    """Reads and writes one run directory.

    Args:
        path: need not exist yet.
        writes: files are written; of several processes only the first one writes.
    """

    def __init__(self, path: str | Path, writes: bool = True) -> None:
        self.path, self.writes = Path(path), writes
        self.checkpoints = self.path / "checkpoints"
        self.tensorboard = self.path / "tensorboard"
        self.profile = self.path / "profile"
        self._files = RunFiles(self.path, writes)
        self.metrics = MetricsLog(self.path / "metrics.jsonl", self._files.writing, writes)
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
        self._check(config)
        if (self.path / "config.json").exists():
            self.lock()

    def _check(self, config: Mapping[str, Any]) -> None:
        """Refuse a directory that a run of `config` may not use."""
        if self.path.exists() and not self.path.is_dir():
            raise self._files.refused("is no directory")
        if (self.path / "config.json").exists():
            lines = differences(complete(self.read_config()), json.loads(json.dumps(config)))
            if lines:
                raise self._files.refused(
                    f"holds a run of another config: {'; '.join(lines)}",
                    "use another directory, or that run's config",
                )
            return
        # A run whose process died before it began leaves a status alone. Hidden are our lock, files that
        # a kill left half written, and files of file systems.
        if other_names(self.path):
            problem, fix = what_else(self.path) or ("is not empty and holds no run", "")
            raise self._files.refused(problem, fix or "use a new directory")

    def create(self, config: Mapping[str, Any]) -> None:
        """Make the directory for a run of `config` and lock it, unless `claim` has locked it.

        Raises:
            UserError: as `claim`.
        """
        if not self.writes:
            return
        if not self._lock.held:
            # Also where it was claimed: another process may have made it since.
            self._check(config)
            self.make()
            self.lock()
        if not (self.path / "config.json").exists():
            self._files.write_json("config.json", config)
        named = paths_of(config)
        with self._files.writing():
            origin.sign(self.path, named if named == paths_of(self.read_config()) else None)

    def make(self) -> None:
        """Make the directory where it does not exist.

        Raises:
            UserError: it cannot be made.
        """
        with self._files.writing():
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
                raise self._files.refused(problem, "use a directory that all processes see")
            time.sleep(0.1)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """A context in which no other process trains here.

        Raises:
            UserError: as `lock`.
        """
        self.lock()
        try:
            yield
        finally:
            self.unlock()

    def lock(self) -> None:
        """Keep other processes from training here until `unlock` or the end of this one.

        Raises:
            UserError: one does, or the directory cannot be written.
        """
        if not self.writes or self._lock.held:
            return
        with self._files.writing():
            if not self._lock.acquire(needed=False):
                problem = f"{self._lock.holder} is training there"
                raise self._files.refused(problem, "wait until it has ended, or stop it")
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
        with self._files.writing():
            moved = self._free(path.name)
            path.rename(moved)
        return moved

    def _free(self, name: str) -> Path:
        folder = self.path / "damaged"
        folder.mkdir(exist_ok=True)
        suffixes = itertools.chain([""], (f".{number}" for number in itertools.count(2)))
        paths = (folder / f"{name}{suffix}" for suffix in suffixes)
        return next(path for path in paths if not path.exists())

    def read_config(self) -> dict[str, Any]:
        """The config of the run, in canonical spelling.

        Raises:
            UserError: nothing was trained here, the file is corrupt, or the directory may come from
                somebody else and has links to outside of it.
        """
        origin.refuse_links(self.path)
        return respell(self._files.read_json("config.json", check_config))

    def load_config(self, overrides: Mapping[str, Any]) -> Config:
        """The config of the run, with fields changed that say where it runs or how it is evaluated.

        Paths of a config that the user did not name are another's: `data.cache_dir` is left out, and
        `refuse_unconfirmed` refuses the others. To repeat one in `overrides` is to name it.

        Raises:
            UserError: as `read_config`; or an override that changes what was trained.
        """
        config, self._unconfirmed = with_overrides(self.path, self.read_config(), overrides)
        return config

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
            # None yet, or a corrupt one: training will show.
            return None
        return state if state in ("diverged", "stopped") else None

    def read_data(self) -> dict[str, Any]:
        """Facts about the data, written by `write_data`.

        Raises:
            UserError: there is no such file, or it is corrupt.
        """
        return self._files.read_json("data.json", check_data)

    def read_status(self) -> dict[str, Any]:
        """The status, written by `write_status`.

        Earlier versions wrote `done` where the last evaluation was not finite: it reads as `diverged`.
        """
        status = self._files.read_json("status.json", check_status)
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
            self._files.write_json("data.json", facts)
            return
        if changes := data_changes(stored, facts):
            problem = f"began with other data: {'; '.join(changes)}"
            raise self._files.refused(
                problem, "put them back as they were, or use another directory"
            )

    def write_status(self, state: str, step: int, total_steps: int, **facts: Any) -> None:
        """Write status.json; see `status.make_status`."""
        status = make_status(state, step, total_steps, **facts)
        self._files.write_json("status.json", status)

    def log(self, event: str, step: int, **numbers: Any) -> None:
        """Append a line to metrics.jsonl."""
        self.metrics.write({"event": event, "step": step, **numbers})

    def read_metrics(self) -> Iterator[dict[str, Any]]:
        """See `MetricsLog.read`."""
        return self.metrics.read()

    def readable_metrics(self) -> list[dict[str, Any]]:
        """See `MetricsLog.readable`."""
        return self.metrics.readable()

    def forget_after(self, step: int) -> int:
        """Drop the lines of metrics.jsonl after `step`, which a resumed run writes again.

        Returns:
            How many others could not be read; the file as it was is then in `damaged/`.
        """
        if not self.writes:
            return 0
        with self._files.writing():
            return self.metrics.forget_after(step, lambda: self._free("metrics.jsonl"))
