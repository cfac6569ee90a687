"""The jobs of a sweep on this machine: started, watched, stopped together, and never left alone.

This module imports no JAX, so that the process that starts workers holds no device.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from resnet_jax.errors import UserError
from resnet_jax.sweeps.jobs import STOP_WITH_PARENT, Command, Job, Worker, forget_dead, start_worker
from resnet_jax.sweeps.slurm_queue import queued_jobs, recorded_jobs
from resnet_jax.sweeps.sweep_directory import SweepDirectory
from resnet_jax.training.interruption import SIGNALS, StopRequest
from resnet_jax.training.lock import Lock

POLL_SECONDS = 0.1


@contextlib.contextmanager
def hold(directory: SweepDirectory, say: Callable[[str], None] = print) -> Iterator[int]:
    """Keep other sweeps out of the directory; wait for the workers of one that was killed.

    Yields:
        A file descriptor for `run_locally`: its workers keep it open.

    Raises:
        UserError: another sweep is at work there, or it cannot be written.
    """
    path = str(directory.path)
    sweep = Lock(directory.path / ".sweep.lock")
    workers = Lock(directory.path / ".workers.lock")
    with contextlib.ExitStack() as stack:
        stack.callback(sweep.release)
        stack.callback(workers.release)
        try:
            directory.path.mkdir(parents=True, exist_ok=True)
            if not sweep.acquire():
                problem = "another sweep is at work there"
                raise UserError("--workdir", path, problem, "wait until it has ended, or stop it")
            if not workers.acquire():
                say(f"waiting for the workers of a killed sweep in {path} to save and stop")
                workers.acquire(wait=True)
        except OSError as error:
            reason = error.strerror or str(error)
            problem = f"cannot be written and locked ({reason})"
            raise UserError("--workdir", path, problem, "use another directory") from error
        yield workers.fileno()


def stop_with_parent() -> None:
    """Stop by SIGTERM when the process that started this one is gone. For workers, at their start."""
    if os.environ.pop(STOP_WITH_PARENT, None):
        threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    # The parent holds the other end of this pipe and never writes.
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def find_devices() -> list[str]:
    """Names of the NVIDIA GPUs that may be used here, for CUDA_VISIBLE_DEVICES."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip()]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(
        ["nvidia-smi", "--list-gpus"], capture_output=True, encoding="utf-8", errors="replace"
    )
    count = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    return [str(index) for index in range(count)]


def run_locally(
    jobs: Sequence[Job],
    command: Command,
    directory: SweepDirectory,
    lock: int,
    *,
    max_parallel: int = 1,
    devices: Sequence[str] = (),
    tick: Callable[[], None] = lambda: None,
) -> int:
    """Run every job in a separate process; one that crashes does not stop the others.

    A signal of `SIGNALS` makes all of them save and stop; a second Ctrl-C kills them.

    Args:
        command: job → words of its worker's command line.
        lock: what `hold` yields.
        max_parallel: processes at once.
        devices: names of GPUs, which processes that run at once share out by CUDA_VISIBLE_DEVICES.
        tick: called several times a second.

    Returns:
        Exit code: 0 all jobs have ended, 128 plus its number where a signal stopped it.

    Raises:
        UserError: some of the runs are queued on Slurm.
    """
    runs = [run for job in jobs for run in job.runs]
    _refuse_queued(runs, directory)
    forget_dead(directory, runs)
    waiting, workers = deque(jobs), dict[int, Worker]()
    signalled = False
    with StopRequest() as stop:
        try:
            while workers or (waiting and stop.signal is None):
                for slot in range(max_parallel):
                    if waiting and slot not in workers and stop.signal is None:
                        workers[slot] = start_worker(
                            waiting.popleft(),
                            command,
                            directory,
                            environment=_device(slot, devices, max_parallel),
                            pass_fds=(lock,),
                            # Ctrl-C on the terminal is for this process alone, which passes it on.
                            start_new_session=True,
                        )
                time.sleep(POLL_SECONDS)
                if stop.signal is not None and not signalled:
                    signalled = True
                    for worker in workers.values():
                        worker.process.terminate()
                waiting.extend(_settle_ended(workers, directory))
                tick()
        except KeyboardInterrupt:
            _kill(workers, directory)
        finally:
            # After an error here, those left find their parent gone, save and stop.
            for worker in workers.values():
                worker.release()
    return 0 if stop.signal is None else SIGNALS[stop.signal][0]


def _refuse_queued(runs: Sequence[str], directory: SweepDirectory) -> None:
    if any(job for job in recorded_jobs(directory)[1] if set(job.runs) & set(runs)):
        queued = {run_id for job in queued_jobs(directory) for run_id in job.runs}
        if count := len(queued & set(runs)):
            problem = f"{count} of the runs are queued on Slurm"
            fix = "wait for them by --executor=slurm, or cancel them by scancel"
            raise UserError("--executor", "local", problem, fix)


def _device(slot: int, devices: Sequence[str], max_parallel: int) -> dict[str, str]:
    if len(devices) < 2 or max_parallel == 1:
        return {}
    share = devices[slot::max_parallel] or [devices[slot % len(devices)]]
    return {"CUDA_VISIBLE_DEVICES": ",".join(share)}


def _settle_ended(workers: dict[int, Worker], directory: SweepDirectory) -> list[Job]:
    ended = [slot for slot, worker in workers.items() if worker.process.poll() is not None]
    rests = [workers.pop(slot).settle(directory) for slot in ended]
    return [rest for rest in rests if rest is not None]


def _kill(workers: dict[int, Worker], directory: SweepDirectory) -> None:
    for worker in workers.values():
        worker.process.kill()
        worker.process.wait()
        forget_dead(directory, worker.job.runs)
    workers.clear()
