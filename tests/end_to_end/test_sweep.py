"""`launch.py sweep` as a user runs it: faults, kills, going on, adding runs."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from commands import ROOT, environment, launch, metrics, status

FILE = '''"""A study for tests."""

from resnet_jax.config import default_config


def get_config():
    config = default_config()
    config.model.depth = 8
    config.data.pad = 1
    config.train.duration = "16 steps"
    config.train.batch_size = 16
    config.log.every = "4 steps"
    config.evaluate.every = "8 steps"
    config.checkpoint.every = "4 steps"
    return config


def sweep():
    return {runs}
'''
SEEDS = [{"seed": 0}, {"seed": 1}, {"optimizer.learning_rate": 0.02}]


@pytest.fixture
def file(tmp_path):
    def write(runs):
        path = tmp_path / "study.py"
        path.write_text(FILE.replace("{runs}", repr(runs)))
        return path

    return write


def command(file, workdir, *options):
    return [
        sys.executable,
        "launch.py",
        "sweep",
        f"--config={file}",
        f"--workdir={workdir}",
        *options,
    ]


def sweep(file, workdir, *options):
    return subprocess.run(
        command(file, workdir, *options),
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=600,
    )  # fmt: skip


def table(workdir):
    """What a report is made of: states, results and metrics of all runs, without what clocks say."""
    runs = json.loads((workdir / "sweep.json").read_text())["runs"]
    result = {}
    for run in runs:
        directory = workdir / "runs" / run["id"]
        said = {key: status(directory).get(key) for key in ("state", "step", "result", "error")}
        result[run["id"]] = said, metrics(directory)
    return result


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A finished sweep of `SEEDS` and what it printed."""
    directory = tmp_path_factory.mktemp("sweep")
    path = directory / "study.py"
    path.write_text(FILE.replace("{runs}", repr(SEEDS)))
    done = sweep(path, directory / "sweep")
    assert done.returncode == 0, done.stdout + done.stderr
    return path, directory / "sweep", done


def test_each_run_is_as_if_alone(undisturbed, tmp_path):
    file, workdir, done = undisturbed
    assert "3 runs: 3 done" in done.stdout
    run = workdir / "runs" / "learning_rate=0.02"
    assert launch("evaluate", run, "--json").returncode == 0
    # The same config alone writes the same numbers, bit for bit.
    alone = subprocess.run(
        [sys.executable, "launch.py", "train", f"--config={file}", f"--workdir={tmp_path / 'alone'}",
         "--config.optimizer.learning_rate=0.02"],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert alone.returncode == 0, alone.stderr
    assert metrics(run) == metrics(tmp_path / "alone")


def test_the_same_command_again_trains_nothing_and_added_runs_alone(undisturbed):
    file, workdir, _ = undisturbed
    times = {path: path.stat().st_mtime_ns for path in workdir.glob("runs/*/status.json")}
    assert sweep(file, workdir).returncode == 0
    file.write_text(FILE.replace("{runs}", repr([*SEEDS, {"seed": 7}])))
    try:
        again = sweep(file, workdir)
    finally:
        file.write_text(FILE.replace("{runs}", repr(SEEDS)))
    assert again.returncode == 0, again.stdout + again.stderr
    assert "4 runs: 4 done" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert status(workdir / "runs" / "seed=7")["state"] == "done"


def test_a_sweep_that_is_killed_at_random_moments_ends_the_same(undisturbed, tmp_path):
    file, expected, _ = undisturbed
    workdir, rng = tmp_path / "sweep", random.Random(0)
    kills = 0
    for _ in range(6):
        process = subprocess.Popen(
            command(file, workdir),
            cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        # Not before the workers have begun; then at any moment of the next seconds.
        begun = workdir / ".workers.lock"
        end = time.monotonic() + rng.uniform(1, 9)
        while process.poll() is None and (not begun.exists() or time.monotonic() < end):
            time.sleep(0.01)
        if process.poll() is not None:
            break
        for worker in children(process.pid):
            os.kill(worker, signal.SIGKILL)
        process.kill()
        process.wait()
        kills += 1
    assert kills >= 2
    last = sweep(file, workdir)
    assert last.returncode == 0, last.stdout + last.stderr
    ids = [run["id"] for run in json.loads((workdir / "sweep.json").read_text())["runs"]]
    reached = table(expected)
    assert table(workdir) == {run_id: reached[run_id] for run_id in ids}


def children(pid):
    text = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(word) for word in text.stdout.split()]


def test_faults_are_told_apart_and_do_not_stop_the_rest(file, tmp_path):
    runs = [
        {"optimizer.learning_rate": 1e30},
        {"model.width_factor": 100_000},
        {"model.shortcut": "E"},
        {"seed": 1},
    ]
    workdir = tmp_path / "sweep"
    refused = sweep(file(runs), workdir)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "run shortcut=E: model.shortcut = 'E': allowed" in refused.stderr
    assert not workdir.exists()
    del runs[2]
    done = sweep(file(runs), workdir)
    assert done.returncode == 1, done.stdout + done.stderr
    states = {path.name: status(path)["state"] for path in (workdir / "runs").glob("*")}
    assert states == {
        "learning_rate=1e30": "diverged", "width_factor=100000": "failed", "seed=1": "done",
    }  # fmt: skip
    assert "3 runs: 1 diverged, 1 failed, 1 done" in done.stdout
    assert "Out of memory" in status(workdir / "runs" / "width_factor=100000")["error"]
    # Failed runs are left alone until asked for.
    before = (workdir / "runs" / "width_factor=100000" / "status.json").stat().st_mtime_ns
    assert sweep(file(runs), workdir).returncode == 1
    after = (workdir / "runs" / "width_factor=100000" / "status.json").stat().st_mtime_ns
    assert before == after


def test_dry_run_writes_nothing(file, tmp_path):
    done = sweep(file(SEEDS), tmp_path / "sweep", "--dry_run")
    assert done.returncode == 0, done.stderr
    assert "75,002" in done.stdout
    assert "learning_rate=0.02" in done.stdout
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--executor=pbs"], "--executor = 'pbs': allowed: local, slurm"),
        (["--vectorize=vmpa"], "did you mean 'vmap'"),
        (["--max_parallel=0"], "must be 1 or more"),
        (["--slurm.time=1:00:00"], "needs --executor=slurm"),
        (["--config.model.dpeth=8"], "did you mean 'model.depth'"),
    ],
)
def test_wrong_options_are_refused(file, tmp_path, options, words):
    done = sweep(file(SEEDS), tmp_path / "sweep", *options)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert words in done.stderr
    assert not (tmp_path / "sweep").exists()
