"""Jobs by submitit, on its executor for this machine; tests/sweeps/slurm/ has those on Slurm."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from resnet_jax.errors import UserError
from resnet_jax.sweeps import slurm
from resnet_jax.sweeps.executors import Job, hold
from resnet_jax.sweeps.sweep_directory import SweepDirectory

pytest.importorskip("submitit")
HERE = Path(__file__).parent


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.setattr(slurm, "QUEUE_SECONDS", 0.1)
    monkeypatch.setattr(slurm, "GRACE_SECONDS", 0.5)
    monkeypatch.setenv("PYTHONPATH", str(HERE.parent.parent))
    return SweepDirectory(tmp_path / "sweep")


@pytest.fixture
def submit(directory):
    """Submit jobs; those that are left after the test are stopped."""
    words = [sys.executable, str(HERE / "stand_in_worker.py"), str(directory.path)]

    def submit_jobs(*names, **options):
        jobs = [Job(tuple(name.split("+"))) for name in names]
        with hold(directory):
            return slurm.submit(
                jobs, lambda job: [*words, *job.runs], directory, options=options, cluster="local"
            )

    yield submit_jobs
    for path in directory.runs.glob("*"):
        if states(directory, path.name) == ["running"]:
            os.kill(directory.run(path.name).read_status()["pid"], signal.SIGKILL)


def states(directory, *run_ids):
    return [directory.run(run_id).read_status()["state"] for run_id in run_ids]


def wait_until(condition, seconds=30):
    end = time.monotonic() + seconds
    while True:
        with suppress(UserError):
            if condition():
                return
        assert time.monotonic() < end
        time.sleep(0.02)


def test_jobs_run_to_their_end(directory, submit):
    submitted = submit("fine-1+fine-2", "diverges", "killed")
    assert [job.runs for job in submitted] == [("fine-1", "fine-2"), ("diverges",), ("killed",)]
    ticks = []
    assert slurm.wait(directory, tick=lambda: ticks.append(1)) == 0
    assert states(directory, "fine-1", "fine-2", "diverges") == ["done", "done", "diverged"]
    failed = directory.run("killed").read_status()
    assert failed["state"] == "failed"
    assert failed["error"].startswith("its process was killed by signal 9 (SIGKILL)")
    assert "stand_in_worker.py" in (directory.logs / "fine-1.log").read_text()
    assert ticks


def test_what_is_queued_is_not_submitted_twice(directory, submit):
    first = submit("slow-1")
    wait_until(lambda: states(directory, "slow-1") == ["running"])
    # The run is grouped otherwise now, and another one is new.
    second = submit("fine+slow-1")
    assert [job.runs for job in second] == [("fine",)]
    assert submit("slow-1", "fine") == []
    assert slurm.queued_jobs(directory) == [*first, *second]
    recorded = json.loads((directory.path / "slurm.json").read_text())
    assert [one["runs"] for one in recorded["jobs"]] == [["slow-1"], ["fine"]]
    assert states(directory, "slow-1") == ["running"]


def test_time_out_saves_and_the_job_goes_on(directory, submit):
    submit("resumes-1", time="1", signal_delay_s="57")
    wait_until(lambda: states(directory, "resumes-1") == ["preempted"])
    assert slurm.wait(directory) == 0
    assert states(directory, "resumes-1") == ["done"]
    log = (directory.logs / "resumes-1.log").read_text()
    assert log.count("$ ") == 2


def test_requeued_job_leaves_alone_what_has_ended(directory, monkeypatch):
    words = [sys.executable, str(HERE / "stand_in_worker.py"), str(directory.path)]
    task = slurm.Task(
        Job(("fine-1", "raises", "fine-2")), lambda job: [*words, *job.runs], directory
    )
    for run_id, said in (("fine-1", "done"), ("raises", "failed"), ("fine-2", "preempted")):
        (directory.runs / run_id).mkdir(parents=True)
        directory.run(run_id).write_status(said, 4, 10)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    task()
    assert [directory.run(r).read_status()["step"] for r in task.job.runs] == [4, 4, 10]
    task()
    assert (directory.logs / "fine-2.log").read_text().count("$ ") == 1


def test_ctrl_c_leaves_the_jobs_alone_and_the_next_waits_for_them(directory, submit):
    (job,) = submit("slow-1")
    words = [sys.executable, str(HERE / "stand_in_sweep.py"), str(directory.path), "wait"]
    waiting = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    wait_until(lambda: states(directory, "slow-1") == ["running"])
    time.sleep(2)
    waiting.send_signal(signal.SIGINT)
    printed, _ = waiting.communicate(timeout=30)
    assert waiting.returncode == 130
    assert f"`scancel {job.id}`" in printed
    assert states(directory, "slow-1") == ["running"]
    worker = directory.run("slow-1").read_status()["pid"]
    # Slurm's warning goes to all processes of a job; workers wait for SIGTERM.
    os.kill(worker, signal.SIGUSR2)
    os.kill(worker, signal.SIGTERM)
    assert slurm.wait(directory) == 0
    assert states(directory, "slow-1") == ["preempted"]
    assert slurm.queued_jobs(directory) == []


def test_job_that_vanishes_has_failed(directory, submit):
    (job,) = submit("stubborn+fine")
    wait_until(lambda: states(directory, "stubborn") == ["running"])
    worker = directory.run("stubborn").read_status()["pid"]
    task = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])
    for process in (int(job.id), task, worker):
        os.kill(process, signal.SIGKILL)
    assert slurm.wait(directory) == 0
    for run_id in ("stubborn", "fine"):
        found = directory.run(run_id).read_status()
        assert found["state"] == "failed"
        assert found["error"].startswith(f"its Slurm job {job.id} ended (no state known)")
        assert found["error"].endswith(f"log: slurm/{job.id}_0_log.err")


def test_options_of_sbatch_are_checked():
    assert slurm.checked({}) == {"time": "60", "signal_delay_s": "90"}
    checked = slurm.checked({"cpus-per-task": "4", "partition": "low", "time": "1-02:03:04"})
    assert (checked["cpus_per_task"], checked["time"]) == ("4", str(26 * 60 + 4))
    assert slurm.checked({"time": "02:30:00"})["time"] == "150"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"partitoin": "low"}, "did you mean 'partition'?"),
        ({"time": "1:30"}, "must be minutes, HH:MM:SS or D-HH:MM:SS"),
        ({"time": "a day"}, "must be minutes"),
        ({"cpus_per_task": "many"}, "must be a whole number"),
        ({"cpus_per_task": "0"}, "must be a whole number, 1 or more"),
        ({"time": "1"}, "must be less than the time of a job (1 min)"),
    ],
)
def test_bad_option_is_refused(options, said):
    with pytest.raises(UserError) as caught:
        slurm.checked(options)
    assert said in str(caught.value)


def test_sbatch_gets_the_options(directory, monkeypatch, tmp_path):
    stand_in(tmp_path, "srun", "")
    stand_in(tmp_path, "squeue", "")
    stand_in(tmp_path, "sbatch", f"cp $1 {tmp_path}/script; echo Submitted batch job 12")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    options = {"partition": "low", "cpus_per_task": "4", "mem": "8G", "reservation": "mine"}
    jobs = [Job(("a", "b")), Job(("c",)), Job(("d",))]
    with hold(directory):
        submitted = slurm.submit(jobs, echo, directory, options=options, max_parallel=2)
    assert [job.id for job in submitted] == ["12_0", "12_1", "12_2"]
    script = (tmp_path / "script").read_text().splitlines()
    for line in (
        "array=0-2%2", "cpus-per-task=4", "mem=8G", "partition=low", "requeue", "reservation=mine",
        "signal=USR2@90", "time=60", "job-name=sweep",
    ):  # fmt: skip
        assert f"#SBATCH --{line}" in script
    assert "--cpus-per-task=4" in script[-1]


def test_refusals_are_one_line(directory, monkeypatch, tmp_path):
    def submit_one():
        with hold(directory):
            slurm.submit([Job(("a",))], echo, directory, options={"partition": "none"})

    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="no sbatch and srun here"):
        submit_one()
    stand_in(tmp_path, "srun", "")
    stand_in(tmp_path, "sbatch", "echo sbatch: error: invalid partition specified >&2; exit 1")
    with pytest.raises(UserError, match="refuses the jobs: invalid partition"):
        submit_one()
    directory.path.joinpath("slurm.json").write_text(
        '{"cluster": "slurm", "jobs": [{"id": "12_0", "runs": ["a"]}]}'
    )
    with pytest.raises(UserError, match="squeue does not answer"):
        submit_one()
    stand_in(tmp_path, "squeue", "echo slurm_load_jobs error: Unable to contact >&2; exit 1")
    with pytest.raises(UserError, match="squeue fails: slurm_load_jobs error: Unable to contact"):
        submit_one()


def echo(job):
    return ["echo", *job.runs]


def stand_in(directory, name, text):
    program = directory / name
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
