"""`launch.py sweep --executor=slurm` on a real Slurm, that of start.sh beside this file.

pytest -m slurm        # as root, with slurm-wlm and munge installed; some ten minutes on 2 cores
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent.parent
STUDY = '''"""A study for tests."""

from resnet_jax.config import default_config


def get_config():
    config = default_config()
    config.model.depth = 8
    config.data.pad = 1
    config.train.duration = "{steps} steps"
    config.train.batch_size = 16
    config.schedule.name = "constant"
    config.log.every = "50 steps"
    config.evaluate.every = "500 steps"
    config.checkpoint.every = "1000 steps"
    return config


def sweep():
    return [{{"seed": seed}} for seed in {seeds}]
'''
pytestmark = [
    pytest.mark.slow,
    pytest.mark.slurm,
    pytest.mark.skipif(
        os.geteuid() != 0
        or not all(map(shutil.which, ("sbatch", "slurmctld", "slurmd", "munged"))),
        reason="needs root, slurm-wlm and munge",
    ),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A Slurm with two processors; the module's processes speak to it."""
    directory = tmp_path_factory.mktemp("slurm") / "cluster"
    subprocess.run([HERE / "start.sh", directory], check=True, timeout=120)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("SLURM_CONF", str(directory / "slurm.conf"))
        monkeypatch.setenv("XLA_FLAGS", "")
        yield
    subprocess.run([HERE / "stop.sh", directory], timeout=120)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """(steps, seeds) → a sweep file, the same path for the same arguments."""
    directory = tmp_path_factory.mktemp("studies")

    def write(steps, seeds):
        path = directory / f"study_{steps}_{len(seeds)}.py"
        path.write_text(STUDY.format(steps=steps, seeds=seeds))
        return path

    return write


@pytest.fixture(scope="module")
def undisturbed(cluster, study, tmp_path_factory):
    """(steps, seeds) → what a report is made of, from a sweep on this machine without Slurm."""
    found = {}

    def train(steps, seeds):
        if (steps, seeds) not in found:
            workdir = tmp_path_factory.mktemp("undisturbed") / "sweep"
            done = start(study(steps, seeds), workdir, "--executor=local")
            assert done.wait(600) == 0
            found[steps, seeds] = results(workdir)
        return found[steps, seeds]

    return train


def start(file, workdir, *options):
    workdir.mkdir(exist_ok=True)
    words = [sys.executable, "launch.py", "sweep", f"--config={file}", f"--workdir={workdir}"]
    with (workdir.parent / "printed").open("a") as printed:
        return subprocess.Popen(
            [*words, "--vectorize=off", *options], cwd=ROOT, stdout=printed, stderr=printed
        )


def on_slurm(file, workdir, *options):
    return start(file, workdir, "--executor=slurm", "--max_parallel=2", *options)


def printed(workdir):
    return (workdir.parent / "printed").read_text()


def status(workdir, run_id):
    with contextlib.suppress(FileNotFoundError):
        return json.loads((workdir / "runs" / run_id / "status.json").read_text())
    return {"state": "pending", "step": 0}


def results(workdir):
    """Result and metrics of each run, without what depends on the clock."""
    found = {}
    for path in sorted((workdir / "runs").glob("*")):
        lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
        for line in lines:
            line.pop("images_per_second", None)
        said = status(workdir, path.name)
        found[path.name] = said["state"], said["step"], said["result"], lines
    return found


def jobs(workdir):
    return json.loads((workdir / "slurm.json").read_text())["jobs"]


def starts(workdir, run_id):
    """Words of each start of a run's worker, from its log."""
    return re.findall(r"^\$ .*$", (workdir / "logs" / f"{run_id}.log").read_text(), re.MULTILINE)


def wait_until(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.2)


def say(*words):
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def test_runs_of_an_array_end_and_the_same_command_submits_nothing(study, undisturbed, tmp_path):
    file, workdir = study(2000, (0, 1, 2)), tmp_path / "sweep"
    assert on_slurm(file, workdir).wait(600) == 0, printed(workdir)
    assert results(workdir) == undisturbed(2000, (0, 1, 2))
    submitted = jobs(workdir)
    assert len({job["id"].split("_")[0] for job in submitted}) == 1
    assert [job["runs"] for job in submitted] == [["seed=0"], ["seed=1"], ["seed=2"]]
    files = sorted((workdir / "slurm").iterdir())
    assert on_slurm(file, workdir).wait(120) == 0
    assert (jobs(workdir), sorted((workdir / "slurm").iterdir())) == (submitted, files)
    assert len(starts(workdir, "seed=0")) == 1


def requeue(job_id):
    say("scontrol", "requeue", job_id)


def preempt(job_id):
    say("sbatch", "--partition=high", "--cpus-per-task=2", "--output=/dev/null", "--wrap=sleep 3")


@pytest.mark.parametrize("disturb", [requeue, preempt])
def test_requeued_job_goes_on_where_it_was(study, undisturbed, tmp_path, disturb):
    file, workdir = study(3000, (0,)), tmp_path / "sweep"
    expected = undisturbed(3000, (0,))
    first = on_slurm(file, workdir, "--slurm.partition=low")
    wait_until(lambda: status(workdir, "seed=0")["step"] > 300, first)
    submitted = jobs(workdir)
    disturb(submitted[0]["id"])
    wait_until(lambda: status(workdir, "seed=0")["state"] == "preempted", first)
    saved = status(workdir, "seed=0")["step"]
    # Who waits may leave; the same command finds the job in the queue.
    first.send_signal(signal.SIGINT)
    assert first.wait(60) == 130
    assert f"`scancel {submitted[0]['id']}` cancels" in printed(workdir)
    second = on_slurm(file, workdir, "--slurm.partition=low")
    assert second.wait(600) == 0, printed(workdir)
    assert jobs(workdir) == submitted
    assert len(starts(workdir, "seed=0")) == 2
    assert f"going on from the checkpoint of step {saved:,}" in log(workdir)
    assert results(workdir) == expected


def test_time_out_is_no_end(study, undisturbed, tmp_path):
    file, workdir = study(8000, (0,)), tmp_path / "sweep"
    expected = undisturbed(8000, (0,))
    sweep = on_slurm(file, workdir, "--slurm.time=1", "--slurm.signal_delay_s=10")
    assert sweep.wait(900) == 0, printed(workdir)
    said = (workdir / "slurm" / f"{jobs(workdir)[0]['id']}_0_log.out").read_text()
    assert said.count("this job is timed-out") == len(starts(workdir, "seed=0")) - 1 > 0
    assert "going on from the checkpoint" in log(workdir)
    assert results(workdir) == expected


def test_cancelled_job_saves_and_the_same_command_submits_it_again(study, undisturbed, tmp_path):
    file, workdir = study(3000, (0,)), tmp_path / "sweep"
    expected = undisturbed(3000, (0,))
    sweep = on_slurm(file, workdir)
    wait_until(lambda: status(workdir, "seed=0")["step"] > 300, sweep)
    (cancelled,) = jobs(workdir)
    say("scancel", cancelled["id"])
    sweep.wait(120)
    assert status(workdir, "seed=0")["state"] == "preempted"
    assert on_slurm(file, workdir).wait(600) == 0, printed(workdir)
    assert jobs(workdir)[0]["id"] != cancelled["id"]
    assert "going on from the checkpoint" in log(workdir)
    assert results(workdir) == expected


def test_job_that_is_killed_has_failed(study, cluster, tmp_path):
    file, workdir = study(3000, (0,)), tmp_path / "sweep"
    sweep = on_slurm(file, workdir)
    wait_until(lambda: status(workdir, "seed=0")["step"] > 300, sweep)
    worker = say("pgrep", "--full", f"resnet_jax.sweeps.worker --sweep={workdir}").strip()
    task = say("ps", "--format=ppid=", "--pid", worker).strip()
    for process in (task, worker):
        os.kill(int(process), signal.SIGKILL)
    assert sweep.wait(120) == 1
    said = status(workdir, "seed=0")
    assert (said["state"], said["total_steps"]) == ("failed", 3000)
    assert f"its Slurm job {jobs(workdir)[0]['id']} ended (FAILED): " in said["error"]
    assert on_slurm(file, workdir).wait(120) == 1
    assert len(starts(workdir, "seed=0")) == 1


def log(workdir):
    return (workdir / "logs" / "seed=0.log").read_text()


def test_the_tasks_of_a_step_train_one_run_and_stop_together(cluster, tmp_path):
    workdir = tmp_path / "run"
    fields = {"model.depth": 8, "data.pad": 1, "train.batch_size": 16, "train.duration": 400,
              "schedule.warmup": 0, "log.every": 2, "evaluate.every": 400, "checkpoint.every": 100}  # fmt: skip
    words = ["srun", "--ntasks=2", sys.executable, "launch.py", "train", f"--workdir={workdir}"]
    words += ["--config=configs/digits.py", *(f"--config.{k}={v}" for k, v in fields.items())]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "2"}

    def train():
        pipe = subprocess.PIPE
        return subprocess.Popen(
            words, cwd=ROOT, env=environment, text=True, stdout=pipe, stderr=pipe
        )

    first = train()
    wait_until(lambda: (workdir / "metrics.jsonl").exists(), first)
    say("scancel", "--signal=TERM", say("squeue", "--noheader", "--format=%i").strip())
    told = first.communicate(timeout=120)
    assert first.returncode == 143, told
    said = json.loads((workdir / "status.json").read_text())
    assert (said["state"], len(said["devices"])) == ("preempted", 4)
    second = train()
    told = second.communicate(timeout=300)
    assert second.returncode == 0, told
    assert f"going on from the checkpoint of step {said['step']}" in told[0]
    assert told[0].count("Training in") == 1
