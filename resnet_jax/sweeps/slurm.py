"""The jobs of a sweep on a Slurm cluster, by submitit.

The directory of the sweep must be on a file system that the nodes share. It gets

    slurm.json        the jobs that were submitted and may still be queued: id and runs of each
    slurm/            submitit's files

When Slurm is about to end a job (its time is up, or another takes its place), the worker saves and
stops as by any SIGTERM, and the job is queued again. This module imports no JAX.
"""

import contextlib
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from resnet_jax.errors import UserError, nearest, printable
from resnet_jax.run_states import FINAL, PENDING
from resnet_jax.sweeps.jobs import (
    Command,
    Job,
    Worker,
    amend_status,
    forget_dead,
    last_line,
    start_worker,
    state,
)
from resnet_jax.sweeps.slurm_queue import (
    Submitted,
    queued_jobs,
    record,
    recorded_jobs,
    state_of,
)
from resnet_jax.sweeps.sweep_directory import SweepDirectory
from resnet_jax.training.interruption import SIGNALS, StopRequest

# Those of sbatch; `time` is what each job gets before it is saved and queued again.
OPTIONS = (
    "partition", "account", "qos", "time", "cpus_per_task", "gpus_per_node", "gres", "mem",
    "mem_per_cpu", "mem_per_gpu", "constraint", "nodelist", "exclude", "reservation",
    "signal_delay_s",
)  # fmt: skip
DEFAULTS = {"time": "60", "signal_delay_s": "90"}
# Times that a job is queued again before it counts as one that gets nowhere.
REQUEUES = 1000
POLL_SECONDS = 0.2
QUEUE_SECONDS = 5.0
# A file that a node wrote may take this long to be seen here.
GRACE_SECONDS = 15.0


class Task:
    """What a Slurm job executes; submitit pickles it.

    Args:
        job: what to train.
        command: job → words of its worker's command line.
        directory: of the sweep, absolute.
    """

    def __init__(self, job: Job, command: Command, directory: SweepDirectory) -> None:
        self.job, self.command, self.directory = job, command, directory
        self.worker: Worker | None = None

    def __call__(self) -> None:
        """Train the job; after a requeue, those of its runs that have not ended."""
        runs = self.job.runs
        if "SLURM_RESTART_COUNT" in os.environ:
            runs = tuple(r for r in runs if state(self.directory.run(r)) not in FINAL)
        rest = Job(runs) if runs else None
        while rest is not None:
            self.worker = start_worker(
                rest, self.command, self.directory, preexec_fn=_ignore_warnings
            )
            self._wait()
            self.worker.process.wait()
            rest = self.worker.settle(self.directory)

    def checkpoint(self) -> Any:
        """Called by submitit in a signal handler when the job is about to be ended."""
        from submitit.helpers import DelayedSubmission

        if self.worker is not None:
            self.worker.process.terminate()
            self._wait()
        return DelayedSubmission(Task(self.job, self.command, self.directory))

    def _wait(self) -> None:
        # Popen.wait holds a lock, and the signal handler may come while it does.
        assert self.worker is not None
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, self.worker.process.pid, os.WEXITED | os.WNOWAIT)


def _ignore_warnings() -> None:
    # Slurm sends its warning to all processes of a job; the one for workers is SIGTERM.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def submit(
    jobs: Sequence[Job],
    command: Command,
    directory: SweepDirectory,
    *,
    options: Mapping[str, str],
    max_parallel: int | None = None,
    cluster: str = "slurm",
) -> list[Submitted]:
    """Submit the jobs as one array, without the runs that are queued already. Only under `hold`.

    Args:
        command: job → words of its worker's command line; pickled by submitit.
        options: some of `OPTIONS` and their values.
        max_parallel: jobs at once. None: as many as the cluster takes.
        cluster: `slurm`; or `local`, a process of this machine for each job, to try it out.

    Returns:
        What was submitted now.

    Raises:
        UserError: an unknown option, no Slurm or submitit here, or Slurm refuses the jobs.
    """
    executor = _executor(directory, cluster, checked(options), max_parallel or len(jobs))
    queued = queued_jobs(directory)
    taken = {run_id for one in queued for run_id in one.runs}
    new = [Job(runs) for job in jobs if (runs := tuple(r for r in job.runs if r not in taken))]
    if not new:
        return []
    forget_dead(directory, [run_id for job in new for run_id in job.runs])
    here = SweepDirectory(directory.path.absolute())
    try:
        with executor.batch():
            handles = [executor.submit(Task(job, command, here)) for job in new]
    except RuntimeError as error:
        reason = str(error).replace("sbatch: error: ", "").strip()
        raise UserError("--slurm", dict(options), f"Slurm refuses the jobs: {reason}") from error
    pairs = zip(handles, new, strict=True)
    submitted = [Submitted(handle.job_id, job.runs) for handle, job in pairs]
    record(directory, cluster, [*queued, *submitted])
    return submitted


def checked(options: Mapping[str, str]) -> dict[str, str]:
    """All options, with defaults, names with underscores, and the time in minutes.

    Raises:
        UserError: one is unknown, or the time is none.
    """
    result = dict(DEFAULTS)
    for key, value in options.items():
        name = key.replace("-", "_")
        if name not in OPTIONS:
            allowed = f"is unknown; allowed: {', '.join(OPTIONS)}"
            raise UserError(f"--slurm.{key}", value, allowed, nearest(name, OPTIONS))
        result[name] = value
    for name, minimum in (("signal_delay_s", 1), ("cpus_per_task", 1), ("gpus_per_node", 0)):
        if name in result and not (result[name].isdecimal() and int(result[name]) >= minimum):
            problem = f"must be a whole number, {minimum} or more"
            raise UserError(f"--slurm.{name}", result[name], problem)
    minutes, delay = _minutes(result["time"]), result["signal_delay_s"]
    if int(delay) >= minutes * 60:
        problem = f"must be less than the time of a job ({minutes} min)"
        raise UserError("--slurm.signal_delay_s", delay, problem)
    return result | {"time": str(minutes)}


def refuse_directory(directory: SweepDirectory) -> None:
    r"""Raise where Slurm would not write its logs to the directory: it reads `%` and `\` in their names.

    Raises:
        UserError: its path has one of these, or a character that does not print.
    """
    path = str(directory.path.absolute())
    if "%" in path or "\\" in path or printable(path) != path:
        problem = "has %, a backslash or a character that does not print, which Slurm misreads"
        raise UserError("--workdir", path, problem, "use another name, or --executor=local")


def _minutes(text: str) -> int:
    match = re.fullmatch(r"(\d+)|(?:(\d+)-)?(\d+):(\d\d):(\d\d)", text)
    if match is None:
        raise UserError("--slurm.time", text, "must be minutes, HH:MM:SS or D-HH:MM:SS")
    minutes, days, hours, more, seconds = (int(group or 0) for group in match.groups())
    return minutes + (days * 24 + hours) * 60 + more + (seconds > 0)


def _executor(
    directory: SweepDirectory, cluster: str, options: Mapping[str, str], max_parallel: int
) -> Any:
    try:
        import submitit
    except ImportError as error:
        fix = "pip install 'resnet-jax[slurm]'"
        raise UserError("--executor", "slurm", "needs submitit", fix) from error
    folder = directory.path.absolute() / "slurm"
    minutes, delay = int(options["time"]), int(options["signal_delay_s"])
    if cluster == "local":
        local = submitit.LocalExecutor(folder, max_num_timeout=REQUEUES)
        local.update_parameters(timeout_min=minutes, signal_delay_s=delay)
        return local
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise UserError("--executor", "slurm", "there is no sbatch and srun here", "use local")
    executor = submitit.SlurmExecutor(folder, max_num_timeout=REQUEUES)
    parameters = dict[str, Any](options)
    others = {"requeue": True}
    if "reservation" in parameters:
        others["reservation"] = parameters.pop("reservation")
    if "cpus_per_task" in parameters:
        # Since 22.05, srun does not take it over from sbatch.
        parameters["srun_args"] = [f"--cpus-per-task={parameters['cpus_per_task']}"]
    executor.update_parameters(
        **parameters | {"time": minutes, "signal_delay_s": delay},
        job_name=directory.path.absolute().name,
        array_parallelism=max_parallel,
        additional_parameters=others,
    )
    return executor


def wait(
    directory: SweepDirectory,
    *,
    tick: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = print,
) -> int:
    """Wait until all jobs that were submitted have ended. A signal ends the waiting alone.

    Returns:
        Exit code: 0 all jobs have ended, 128 plus its number where a signal stopped it.

    Raises:
        UserError: Slurm does not answer the first time.
    """
    unsettled = recorded_jobs(directory)[1]
    queued = {job.id for job in queued_jobs(directory)}
    asked, gone = time.monotonic(), dict[str, float]()
    with StopRequest() as stop:
        while unsettled and stop.signal is None:
            time.sleep(POLL_SECONDS)
            now = time.monotonic()
            if now - asked > QUEUE_SECONDS:
                asked = now
                with contextlib.suppress(UserError):
                    queued = {job.id for job in queued_jobs(directory)}
            gone = {job_id: since for job_id, since in gone.items() if job_id not in queued}
            for job in [job for job in unsettled if job.id not in queued]:
                ended = all(state(directory.run(run_id)) in FINAL for run_id in job.runs)
                if not ended and now - gone.setdefault(job.id, now) > GRACE_SECONDS:
                    _settle(job, directory)
                    ended = True
                if ended:
                    unsettled.remove(job)
            tick()
    if stop.signal is None:
        return 0
    arrays = " ".join(sorted({job.id.split("_")[0] for job in unsettled}))
    say(f"the jobs go on; the same command waits for them again, `scancel {arrays}` cancels them")
    return SIGNALS[stop.signal][0]


def _settle(job: Submitted, directory: SweepDirectory) -> None:
    """After the job has left the queue: write the status of the runs that it left without one."""
    ended_as = state_of(job.id)
    if ended_as == "CANCELLED":
        forget_dead(directory, job.runs)
        return
    log = directory.path / "slurm" / f"{job.id}_0_log.err"
    line = last_line(log) if log.exists() else ""
    reason = f"its Slurm job {job.id} ended ({ended_as or 'no state known'})"
    said = f": {line}" if line else ""
    for run_id in job.runs:
        if state(directory.run(run_id)) in ("running", PENDING):
            error = f"{reason}{said}; log: {log.relative_to(directory.path)}"
            amend_status(directory.run(run_id), "failed", error=error)
