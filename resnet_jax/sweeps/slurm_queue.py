"""The jobs of a sweep in the queue of Slurm: slurm.json, squeue and scontrol. Imports no JAX."""

import contextlib
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from resnet_jax.errors import UserError
from resnet_jax.files import write_file
from resnet_jax.strict_json import read_json, to_json
from resnet_jax.sweeps.run_ids import is_run_id
from resnet_jax.sweeps.sweep_directory import SweepDirectory


@dataclass(frozen=True)
class Submitted:
    """A job in slurm.json.

    Args:
        id: Slurm's, `12` or, in an array, `12_3`.
        runs: the ids of its runs.
    """

    id: str
    runs: tuple[str, ...]


def record(directory: SweepDirectory, cluster: str, jobs: Sequence[Submitted]) -> None:
    """Write slurm.json."""
    text = to_json({"cluster": cluster, "jobs": [asdict(job) for job in jobs]}, indent=2)
    write_file(directory.path / "slurm.json", text + "\n")


def recorded_jobs(directory: SweepDirectory) -> tuple[str, list[Submitted]]:
    """The cluster and the jobs of slurm.json.

    Raises:
        UserError: it cannot be read, or has something else in it.
    """
    path = directory.path / "slurm.json"
    try:
        recorded = read_json(path)
        jobs = [Submitted(one["id"], tuple(one["runs"])) for one in recorded["jobs"]]
        # The ids become parts of paths and of command lines.
        legal = all(re.fullmatch(r"\d+(_\d+)?", job.id) for job in jobs)
        if not legal or not all(is_run_id(run_id) for job in jobs for run_id in job.runs):
            raise ValueError("it has ids that Slurm or a sweep does not give")
        return recorded["cluster"], jobs
    except FileNotFoundError:
        return "slurm", []
    except (OSError, ValueError, LookupError, TypeError) as error:
        fix = "remove it once none of its jobs runs"
        raise UserError("--workdir", str(path), f"cannot be read ({error})", fix) from error


def queued_jobs(directory: SweepDirectory) -> list[Submitted]:
    """The jobs of the sweep that are pending or running.

    Raises:
        UserError: Slurm does not answer.
    """
    cluster, jobs = recorded_jobs(directory)
    if cluster == "local":
        return [job for job in jobs if _is_alive(int(job.id))]
    here = _queue() if jobs else set()
    return [job for job in jobs if job.id in here]


def _queue() -> set[str]:
    # sacct would tell more, but needs a data base that small clusters do not have.
    words = ["squeue", "--me", "--array", "--noheader", "--format=%i"]
    try:
        answer = _run(words)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError("--executor", "slurm", f"squeue does not answer ({error})") from error
    if answer.returncode != 0:
        raise UserError("--executor", "slurm", f"squeue fails: {answer.stderr.strip()}")
    return set(answer.stdout.split())


def _run(words: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        words, capture_output=True, encoding="utf-8", errors="replace", timeout=60
    )


def _is_alive(process: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(process, os.WNOHANG)
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def state_of(job_id: str) -> str:
    """Slurm's word for how a job ended; empty if it has forgotten, after some minutes."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        words = ["scontrol", "show", "job", job_id]
        answer = _run(words)
        if found := re.search(r"JobState=(\w+)", answer.stdout):
            return found[1]
    return ""
