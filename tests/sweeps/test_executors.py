"""Jobs on this machine: real processes, real signals."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from resnet_jax.errors import UserError
from resnet_jax.sweeps.executors import Job, find_devices, hold, run_locally
from resnet_jax.sweeps.slurm_queue import Submitted, record
from resnet_jax.sweeps.sweep_directory import SweepDirectory

HERE = Path(__file__).parent


@pytest.fixture
def directory(tmp_path):
    return SweepDirectory(tmp_path / "sweep")


@pytest.fixture
def command(directory):
    words = [sys.executable, str(HERE / "stand_in_worker.py"), str(directory.path)]
    return lambda job: [*words, *job.runs]


@pytest.fixture
def start(directory):
    """Start a sweep in a process of its own; all processes are gone after the test."""
    words = [sys.executable, str(HERE / "stand_in_sweep.py"), str(directory.path)]
    processes = []

    def start_sweep(*names):
        process = subprocess.Popen(
            [*words, *names], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        processes.append(process)
        return process

    yield start_sweep
    for process in processes:
        process.kill()
        process.communicate()
    for path in directory.runs.glob("*"):
        if states(directory, path.name) == ["running"]:
            os.kill(worker_of(directory, path.name), signal.SIGKILL)


def run(directory, command, *jobs, **options):
    with hold(directory) as lock:
        return run_locally(
            [Job(tuple(name.split("+"))) for name in jobs], command, directory, lock, **options
        )


def status(directory, run_id):
    return directory.run(run_id).read_status()


def states(directory, *run_ids):
    return [status(directory, run_id)["state"] for run_id in run_ids]


def worker_of(directory, run_id):
    return status(directory, run_id)["pid"]


def wait_until(condition, seconds=30):
    end = time.monotonic() + seconds
    while True:
        with suppress(UserError):
            if condition():
                return
        assert time.monotonic() < end
        time.sleep(0.02)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A dead child of a dead parent waits for init to take note of it.
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"


def test_crash_is_told_and_does_not_stop_the_rest(directory, command):
    code = run(directory, command, "killed", "raises", "broken", "silent", "diverges", "fine")
    assert code == 0
    assert states(directory, "diverges", "fine") == ["diverged", "done"]
    errors = {name: status(directory, name) for name in ("killed", "raises", "broken", "silent")}
    assert {one["state"] for one in errors.values()} == {"failed"}
    assert errors["killed"]["error"] == (
        "its process was killed by signal 9 (SIGKILL), often for want of memory; log: logs/killed.log"
    )
    assert errors["raises"]["error"] == (
        "its process ended with exit code 1: MemoryError: no room for the weights; log: logs/raises.log"
    )
    assert "ImportError: no such room" in errors["broken"]["error"]
    assert "without finishing" in errors["silent"]["error"]


def test_status_keeps_its_facts_when_the_process_crashed(directory, command):
    run(directory, command, "killed")
    found = status(directory, "killed")
    assert (found["step"], found["total_steps"], found["parameters"]) == (3, 10, 75002)


def test_runs_behind_a_crash_in_the_same_job_are_trained(directory, command):
    run(directory, command, "fine-1+killed+fine-2+raises+fine-3")
    runs = ("fine-1", "killed", "fine-2", "raises", "fine-3")
    assert states(directory, *runs) == ["done", "failed", "done", "failed", "done"]


def test_crash_before_anything_began_fails_the_whole_job_once(directory, command):
    run(directory, command, "broken+fine")
    assert states(directory, "broken", "fine") == ["failed", "failed"]
    assert (directory.logs / "broken.log").read_text().count("$ ") == 1


def test_reason_quotes_nothing_of_an_earlier_process(directory, command):
    directory.logs.mkdir(parents=True)
    (directory.logs / "mute.log").write_text("an old story\n")
    run(directory, command, "mute")
    found = status(directory, "mute")["error"]
    assert found == "its process ended with exit code 7; log: logs/mute.log"
    assert (directory.logs / "mute.log").read_text().startswith("an old story\n$ ")


def test_retried_run_tells_the_new_reason(directory, command):
    (directory.runs / "broken").mkdir(parents=True)
    directory.run("broken").write_status("failed", 0, 10, error="an old story")
    run(directory, command, "broken")
    assert "no such room" in status(directory, "broken")["error"]
    assert status(directory, "broken")["total_steps"] == 10


@pytest.mark.parametrize("max_parallel", [1, 2])
def test_at_most_max_parallel_at_once(directory, command, max_parallel):
    names = [f"fine-{index}" for index in range(4)]
    run(directory, command, *names, max_parallel=max_parallel)
    began = [status(directory, name)["began"] for name in names]
    together = max(sum(abs(a - b) < 0.2 for b in began) for a in began)
    assert together <= max_parallel
    assert states(directory, *names) == ["done"] * 4


def test_jobs_at_once_get_their_own_device(directory, command):
    names = [f"fine-{index}" for index in range(4)]
    run(directory, command, *names, max_parallel=2, devices=["3", "5"])
    assert {status(directory, name)["device"] for name in names} == {"3", "5"}
    began = sorted((status(directory, n)["began"], status(directory, n)["device"]) for n in names)
    assert {began[0][1], began[1][1]} == {"3", "5"}


@pytest.mark.parametrize(("max_parallel", "shares"), [(1, {"3,5,6"}), (2, {"3,6", "5"})])
def test_all_devices_are_shared_out(directory, command, monkeypatch, max_parallel, shares):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,6")
    names = [f"fine-{index}" for index in range(4)]
    run(directory, command, *names, max_parallel=max_parallel, devices=find_devices())
    assert {status(directory, name)["device"] for name in names} == shares


def test_a_worker_that_dies_at_its_start_leaves_ended_runs_alone(directory, command):
    run(directory, command, "fine-1")
    dies = lambda job: [sys.executable, "-c", "raise SystemExit(7)"]  # noqa: E731
    run(directory, dies, "fine-1+fine-2")
    assert states(directory, "fine-1", "fine-2") == ["done", "failed"]


def test_one_device_leaves_the_environment_alone(directory, command, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    run(directory, command, "fine", devices=["7"])
    assert status(directory, "fine")["device"] == "7"
    assert find_devices() == ["7"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-8932f937")
    assert find_devices() == ["2", "GPU-8932f937"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert find_devices() == []


def test_devices_are_counted_by_nvidia_smi(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    listing = "GPU 0: H100 (UUID: GPU-1)\n  MIG 1g.10gb Device 0: (UUID: MIG-1)\nGPU 1: H100 (UUID: GPU-2)"
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{listing}\nEND\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert find_devices() == ["0", "1"]


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        (signal.SIGTERM, 143),
        (signal.SIGHUP, 129),
        (signal.SIGUSR1, 138),
        (signal.SIGXCPU, 152),
    ],
)
def test_signal_makes_all_save_and_starts_nothing_new(directory, start, number, code):
    sweep = start("slow-1", "slow-4", "fine")
    wait_until(lambda: states(directory, "slow-1", "slow-4") == ["running"] * 2)
    sweep.send_signal(number)
    assert sweep.wait(30) == code
    assert states(directory, "slow-1", "slow-4") == ["preempted"] * 2
    assert status(directory, "slow-1")["step"] == 4
    assert not directory.run("fine").path.exists()


def test_second_ctrl_c_kills(directory, start):
    sweep = start("stubborn")
    wait_until(lambda: states(directory, "stubborn") == ["running"])
    worker = worker_of(directory, "stubborn")
    sweep.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert sweep.poll() is None
    assert alive(worker)
    sweep.send_signal(signal.SIGINT)
    assert sweep.wait(30) == 130
    assert not alive(worker)
    assert states(directory, "stubborn") == ["interrupted"]


def test_stop_of_one_worker_alone_is_no_failure(directory, start):
    sweep = start("slow-1", "fine")
    wait_until(lambda: states(directory, "slow-1", "fine") == ["running", "done"])
    os.kill(worker_of(directory, "slow-1"), signal.SIGTERM)
    assert sweep.wait(30) == 0
    assert states(directory, "slow-1") == ["preempted"]


def test_second_sweep_on_the_same_directory_is_refused(directory, start):
    first = start("slow-1")
    wait_until(lambda: states(directory, "slow-1") == ["running"])
    second = start("fine")
    printed, _ = second.communicate(timeout=30)
    assert second.returncode == 1
    assert printed.startswith("error: --workdir = ")
    assert "another sweep is at work there" in printed
    assert first.poll() is None
    assert not directory.run("fine").path.exists()


def test_workers_of_a_killed_sweep_save_and_the_next_waits_for_them(directory, start):
    first = start("slow-1", "stubborn")
    wait_until(lambda: states(directory, "slow-1", "stubborn") == ["running"] * 2)
    workers = [worker_of(directory, name) for name in ("slow-1", "stubborn")]
    first.kill()
    first.wait()
    second = start("fine")
    assert second.stdout.readline().startswith("waiting for the workers of a killed sweep")
    wait_until(lambda: states(directory, "slow-1") == ["preempted"])
    assert second.poll() is None
    assert not directory.run("fine").path.exists()
    os.kill(workers[1], signal.SIGKILL)
    directory.run("stubborn").write_status("interrupted", 3, 10)
    assert second.wait(30) == 0
    assert second.stdout.read() == ""
    assert states(directory, "fine") == ["done"]
    assert not any(alive(worker) for worker in workers)


def test_run_that_a_power_cut_left_running_is_trained_again(directory, command):
    (directory.runs / "fine-2").mkdir(parents=True)
    directory.run("fine-2").write_status("running", 5, 10)
    seen = []
    run(
        directory,
        command,
        "fine-1",
        "fine-2",
        tick=lambda: seen.append(states(directory, "fine-2")),
    )
    assert seen[0] == ["interrupted"]
    assert states(directory, "fine-2") == ["done"]


def test_sweep_that_fails_itself_leaves_no_worker(directory, command):
    def tick():
        if directory.run("slow-1").path.exists():
            raise RuntimeError("a bug in the table")

    with pytest.raises(RuntimeError, match="a bug in the table"):
        run(directory, command, "slow-1", tick=tick)
    wait_until(lambda: states(directory, "slow-1") == ["preempted"])


def test_runs_that_slurm_has_are_refused(directory, command, tmp_path, monkeypatch):
    squeue = tmp_path / "squeue"
    squeue.write_text("#!/bin/sh\necho 12_1\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    queued = [Submitted("12_0", ("fine-1",)), Submitted("12_1", ("fine-2", "fine-3"))]
    with hold(directory):
        record(directory, "slurm", queued)
    with pytest.raises(UserError, match="1 of the runs are queued on Slurm"):
        run(directory, command, "fine-1", "fine-2")
    assert not directory.runs.exists()
    run(directory, command, "fine-1")
    assert states(directory, "fine-1") == ["done"]


def test_directory_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match="cannot be written"),
        hold(SweepDirectory(tmp_path / "file")),
    ):
        pass


def test_process_that_starts_workers_imports_no_jax():
    modules = "resnet_jax.sweeps.executors, resnet_jax.sweeps.live, resnet_jax.sweeps.slurm"
    program = f"import sys, {modules}; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_a_log_that_cannot_be_written_is_one_line(directory, start):
    directory.logs.parent.mkdir(parents=True, exist_ok=True)
    directory.logs.write_text("mine")
    sweep = start("fine")
    printed, _ = sweep.communicate(timeout=30)
    assert sweep.returncode == 1
    assert printed.startswith("error: --workdir = ")
    assert "cannot be written" in printed
    assert printed.count("\n") == 1
