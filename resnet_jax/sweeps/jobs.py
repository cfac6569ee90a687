"""Jobs of a sweep and the processes that do them.

A job is what one worker process trains. The worker writes the status of its runs itself; what it
could not write because it crashed is written here. This module imports no JAX.
"""

import contextlib
import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from resnet_jax.errors import UserError
from resnet_jax.run_states import ENDED, FINAL, PENDING
from resnet_jax.sweeps.sweep_directory import SweepDirectory
from resnet_jax.training.interruption import SIGNALS
from resnet_jax.training.run_directory import RunDirectory

# How runs with the same programs are trained; `off` is a process a run.
STRATEGIES = ("auto", "off", "turns", "map", "vmap", "shard")
STOP_WITH_PARENT = "RESNET_JAX_STOP_WITH_PARENT"
# Return codes of a worker that was asked to stop → the state of what it was at. Those below zero are
# of one that had not begun, and so had nothing to save.
STOPPED = {code: state for code, state in SIGNALS.values()} | {
    -number: state for number, (_, state) in SIGNALS.items()
}


@dataclass(frozen=True)
class Job:
    """Runs that one worker process trains.

    Args:
        runs: their ids; the first one names the job and its log.
    """

    runs: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.runs[0]


Command = Callable[[Job], list[str]]


@dataclass
class Worker:
    """A process that trains a job.

    Attributes:
        log_start: bytes that were in its log before it wrote.
        before: run id → when its status had been written last when the worker was started.
    """

    job: Job
    process: "subprocess.Popen[bytes]"
    log: Path
    log_start: int
    before: dict[str, int]

    def release(self) -> None:
        """Close the pipe by which the worker knows that its parent lives."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def settle(self, directory: SweepDirectory) -> Job | None:
        """After its end: write the status of the runs that it left without one.

        Returns:
            The runs that a crash kept it from coming to, where it had come to any.
        """
        self.release()
        code = self.process.returncode
        begun = [r for r in self.job.runs if _written(directory.run(r)) != self.before[r]]
        states = {run_id: state(directory.run(run_id)) for run_id in self.job.runs}
        at_work = [run_id for run_id in begun if states[run_id] == "running"]
        if code in STOPPED:
            for run_id in at_work:
                amend_status(directory.run(run_id), STOPPED[code])
            return None
        # A job that Slurm starts again may have runs that ended before.
        untouched = [i for i in self.job.runs if i not in begun and states[i] not in ENDED]
        if code == 0:
            lost = [run_id for run_id in self.job.runs if states[run_id] not in FINAL]
        else:
            lost = at_work if begun else untouched
        for run_id in lost:
            amend_status(directory.run(run_id), "failed", error=self._reason(directory))
        return Job(tuple(untouched)) if code != 0 and begun and untouched else None

    def _reason(self, directory: SweepDirectory) -> str:
        code, log = self.process.returncode, self.log.relative_to(directory.path)
        if code < 0:
            name = signal.Signals(-code).name
            memory = ", often for want of memory" if code == -signal.SIGKILL else ""
            return f"its process was killed by signal {-code} ({name}){memory}; log: {log}"
        if code == 0:
            return f"its process ended without finishing it; log: {log}"
        line = last_line(self.log, self.log_start)
        said = f": {line}" if line else ""
        return f"its process ended with exit code {code}{said}; log: {log}"


def start_worker(
    job: Job,
    command: Command,
    directory: SweepDirectory,
    environment: Mapping[str, str] | None = None,
    **options: Any,
) -> Worker:
    """Start the worker of a job; what it prints is appended to its log.

    Args:
        environment: variables to set for it.
        **options: of `subprocess.Popen`.

    Raises:
        UserError: its log cannot be written.
    """
    words = command(job)
    log = directory.logs / f"{job.name}.log"
    before = {run_id: _written(directory.run(run_id)) for run_id in job.runs}
    with _opened(log) as file:
        # On a full disk the worker says better what it lacks.
        with contextlib.suppress(OSError):
            file.write(os.fsencode(f"$ {shlex.join(words)}\n"))
        process: subprocess.Popen[bytes] = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | {STOP_WITH_PARENT: "1"} | dict(environment or {}),
            **options,
        )
        return Worker(job, process, log, file.tell(), before)


def _opened(log: Path) -> BinaryIO:
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return log.open("ab", buffering=0)
    except OSError as error:
        problem, fix = f"cannot be written ({error.strerror})", "run the same command when it can"
        raise UserError("--workdir", str(log), problem, fix) from error


def last_line(log: Path, start: int = 0) -> str:
    """The last line of a log that says anything, at most 300 characters, from byte `start` on."""
    with log.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(start, end - 4096))
        lines = file.read().decode(errors="replace").split("\n")
    return next((line.strip()[-300:] for line in reversed(lines) if line.strip()), "")


def state(run: RunDirectory) -> str:
    """The state of a run; `PENDING` before its first status."""
    try:
        return run.read_status()["state"]
    except UserError:
        return PENDING


def amend_status(run: RunDirectory, state: str, **facts: Any) -> None:
    """Change the state of a run whose process is gone, and keep the other facts of its status."""
    try:
        status = run.read_status()
    except UserError:
        status = {"step": 0, "total_steps": 0}
    for name in ("state", "updated", "versions", "error"):
        status.pop(name, None)
    run.make()
    run.write_status(state, **status, **facts)


def forget_dead(directory: SweepDirectory, runs: Sequence[str]) -> None:
    """Call interrupted what a process that was killed left as running; nothing may train `runs`."""
    for run_id in runs:
        if state(directory.run(run_id)) == "running":
            amend_status(directory.run(run_id), "interrupted")


def _written(run: RunDirectory) -> int:
    try:
        return (run.path / "status.json").stat().st_mtime_ns
    except FileNotFoundError:
        return 0
