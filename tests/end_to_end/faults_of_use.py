"""Mistakes, clocks, divergence, length: each does what its docstring says, and returns what came of it."""

import os
import platform
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
from commands import (
    ROOT,
    assert_same_run,
    command,
    environment,
    launch,
    run,
    saved_state,
    saved_steps,
    start,
    status,
    wait_for,
)
from faulty_runs import (
    LONG,
    Outcome,
    content,
    copy_of_undisturbed,
    events,
    files_of,
    refused,
    short,
    undisturbed,
)


def two_processes(directory):
    """The same command twice at once on one work directory"""
    workdir = directory / "run"
    process = start(workdir, **LONG)
    wait_for(lambda: (workdir / "metrics.jsonl").exists(), process)
    process.send_signal(signal.SIGSTOP)
    second = launch("train", workdir, **LONG)
    process.send_signal(signal.SIGCONT)
    message = refused(second, f"process {process.pid} on {platform.node()} is training there")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert_same_run(workdir, undisturbed(**LONG), 60)
    return Outcome(f"`{short(message)}`; the first is unharmed", [2, 0], 0)


def config_edited(directory):
    """The same work directory with another learning rate"""
    workdir = copy_of_undisturbed(directory)
    before = content(workdir)
    done = run("train", workdir, optimizer__learning_rate=0.2)
    message = refused(done, "optimizer.learning_rate: 0.1 → 0.2")
    assert content(workdir) == before
    return Outcome(f"`{short(message)}`", [2])


def file_in_place_of_a_directory(directory):
    """A file where the work directory should be; then one where its checkpoints should be"""
    (directory / "file").write_text("mine")
    message = refused(run("train", directory / "file"), "is no directory")
    workdir = copy_of_undisturbed(directory)
    shutil.rmtree(workdir / "checkpoints")
    (workdir / "checkpoints").write_text("mine")
    refused(run("train", workdir), "checkpoints", "is not a directory")
    assert (workdir / "checkpoints").read_text() == (directory / "file").read_text() == "mine"
    return Outcome(f"`{short(message)}`", [2, 2])


JUMPING_CLOCK = """
import random, time
real, years = time.time, 365 * 86400
time.time = lambda: real() - 20 * years + random.choice([-100, 0, 100])
time.time_ns = lambda: int(time.time() * 1e9)
"""


def clock_jumps(directory):
    """A clock 20 years behind that of the process before and jumping by 100 s at every look; file times of 1970 and 2100"""
    workdir = copy_of_undisturbed(directory)
    shutil.rmtree(workdir / "checkpoints" / "10")
    for path in files_of(workdir):
        moment = random.Random(str(path)).choice([0, 4102444800])
        os.utime(path, (moment, moment))
    (directory / "sitecustomize.py").write_text(JUMPING_CLOCK)
    paths = os.pathsep.join([str(directory), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command("train", workdir),
        cwd=ROOT,
        env=environment(PYTHONPATH=paths),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert_same_run(workdir, undisturbed(), 10)
    return Outcome("nothing depends on the time of day", [0], 5)


def divergence(directory):
    """A learning rate that the schedule multiplies by 10³⁰ at step 6, a checkpoint at every step"""
    workdir = directory / "run"
    fields = {"schedule__name": "step", "schedule__boundaries": "6", "schedule__factor": 1e30}
    done = run("train", workdir, checkpoint__every="1 step", log__every="1 step", **fields)
    assert done.returncode == 3, done.stderr
    assert done.stderr.startswith("error: loss or weights are not finite at step")
    diverged = status(workdir)
    assert diverged["state"] == "diverged"
    assert 6 <= saved_steps(workdir)[-1] < diverged["step"] <= 8
    assert max(step for _, step in events(workdir)) < diverged["step"]
    for array in saved_state(workdir, saved_steps(workdir)[-1]).values():
        assert np.isfinite(array).all()
    before = content(workdir)
    again = run("train", workdir, checkpoint__every="1 step", log__every="1 step", **fields)
    assert again.returncode == 3
    assert content(workdir) == before
    last = saved_steps(workdir)[-1]
    happened = f"ended at step {diverged['step']}; nothing of that step or behind it was kept"
    return Outcome(f"{happened}, the checkpoint of step {last} is finite", [3, 3])


def ten_thousand_steps(directory):
    """10,000 steps with 100 evaluations and log lines; memory, files and threads watched"""
    growth, error, outcome = _watched(directory, save_every=10_000)
    assert growth - 2 * error < 2, (growth, error)
    return outcome


def ten_thousand_steps_with_saves(directory):
    """The same with 100 saves; memory is told, files and threads are watched"""
    return _watched(directory, save_every=100)[-1]


def _watched(directory, save_every):
    """MiB by which the memory of a long run grows, its standard error, and the outcome."""
    workdir = directory / "run"
    intervals = dict.fromkeys(("evaluate__every", "log__every"), "100 steps")
    words = command(
        "train",
        workdir,
        train__duration="10000 steps",
        log__tensorboard=True,
        checkpoint__every=f"{save_every} steps",
        **intervals,
    )
    # With one arena: the C library's other arenas keep what threads that are gone have freed.
    variables = environment(MALLOC_ARENA_MAX="1")
    process = subprocess.Popen(words, cwd=ROOT, env=variables, stdout=subprocess.DEVNULL)
    samples = []
    while process.poll() is None:
        if events(workdir):
            samples.append(_resources(process.pid, events(workdir)[-1][1]))
        time.sleep(0.25)
    assert process.wait() == 0
    steps, resident, files, threads = np.array([s for s in samples if s], float).T
    # The end saves once more.
    warm = (steps >= 2000) & (steps < 10_000)
    growth, error = (10_000 / 2**20 * value for value in _slope(steps[warm], resident[warm]))
    for number in (files, threads):
        # A save that is under way has some open, so the two halves are compared.
        first, second = np.array_split(number[warm], 2)
        assert second.max() <= first.max() + 2, number
    happened = (
        f"memory {resident[warm].mean() / 2**20:.0f} MiB, {growth:+.1f} ± {error:.1f} MiB in "
        f"10,000 steps ({warm.sum()} samples); files {files[warm].min():.0f} to "
        f"{files[warm].max():.0f}, threads {threads[warm].min():.0f} to {threads[warm].max():.0f}"
    )
    return growth, error, Outcome(happened, [0])


def _resources(process, step):
    """Step, resident bytes, open files, threads; None where the process has just ended."""
    folder = Path(f"/proc/{process}")
    try:
        resident = int((folder / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        files, threads = (
            len(list((folder / "fd").iterdir())),
            len(list((folder / "task").iterdir())),
        )
    except OSError:
        return None
    return step, resident, files, threads


def _slope(x, y):
    """Least squares: the slope and its standard error."""
    (slope, offset), residuals, *_ = np.polyfit(x, y, 1, full=True)
    del offset
    variance = residuals[0] / (len(x) - 2)
    return slope, np.sqrt(variance / ((x - x.mean()) ** 2).sum())


def evaluate_during_retention(directory):
    """`evaluate` again and again during a training that keeps one checkpoint and saves at every step"""
    workdir, times = directory / "run", 0
    fields = LONG | {"checkpoint__every": "1 step"}
    fields |= {"checkpoint__keep_last": 1, "checkpoint__keep_best": 0}
    process = start(workdir, **fields)
    wait_for(lambda: len(saved_steps(workdir)) > 0, process)
    while process.poll() is None:
        done = run("evaluate", workdir, "--json")
        assert done.returncode == 0, done.stderr
        times += 1
    output = process.communicate()
    assert process.returncode == 0, output
    assert times > 2
    return Outcome(f"{times} evaluations, none of which met a checkpoint that was gone", [0, 0])
