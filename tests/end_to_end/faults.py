"""Faults, done to real runs by real signals and real damage, and what came of them.

    python tests/end_to_end/faults.py --out=docs/reliability.md

Each fault is a function of an empty directory: it does what its docstring says, asserts what must
come of it and returns what did. `test_faults.py` runs the same functions.
"""

import argparse
import functools
import hashlib
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

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

LONG = {
    "train__duration": "60 steps",
    "checkpoint__every": "2 steps",
    "evaluate__every": "20 steps",
    "evaluate__batch_size": 2,
}


class Outcome(NamedTuple):
    """What came of a fault.

    Attributes:
        happened: in words.
        exit_codes: of the processes, in order.
        steps_lost: that were trained again, or None where none were to lose.
    """

    happened: str
    exit_codes: list[int]
    steps_lost: int | None = None


@functools.cache
def undisturbed(**overrides):
    """The directory of a run that nothing happened to."""
    folder = Path(tempfile.mkdtemp(prefix="undisturbed_"))
    done = run("train", folder / "run", **overrides)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def copy_of_undisturbed(directory, name="run"):
    """A run that was stopped at step 10 of 10 and has checkpoints of steps 5 and 10."""
    shutil.copytree(undisturbed(), directory / name)
    return directory / name


def content(directory):
    """Path → digest of all files, without what says who was here last."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name not in (".lock", "status.json")
    }


def goes_on(workdir, expected, step, **overrides):
    """Run the same command; the run ends as if nothing had happened."""
    done = run("train", workdir, **overrides)
    assert done.returncode == 0, done.stderr
    assert status(workdir)["state"] == "done"
    assert_same_run(workdir, expected, step)
    return done


def refused(done, *words):
    """One line on stderr, exit code 2."""
    assert done.returncode == 2, done
    assert done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr
    return done.stderr.removeprefix("error: ").strip()


def start_told(workdir, log, **overrides):
    """Start a training that tells in a file what it compiles."""
    with log.open("w") as file:
        return subprocess.Popen(
            command("train", workdir, **overrides),
            cwd=ROOT,
            env=environment(JAX_LOG_COMPILES="1"),
            stdout=file,
            stderr=file,
        )


# Signals.


def sigterm_before_the_first_step(directory):
    """SIGTERM while JAX is imported, while the state is initialised, and while the step is compiled"""
    workdir, log = directory / "run", directory / "log"
    moments = {
        "import": lambda process: "jaxlib" in Path(f"/proc/{process.pid}/maps").read_text(),
        "initialisation": lambda process: "jit(_fresh_state)" in log.read_text(),
        "compilation": lambda process: "compilation of jit(_orders)" in log.read_text(),
    }
    codes = []
    for name, moment in moments.items():
        process = start_told(workdir, log)
        wait_for(lambda p=process, reached=moment: reached(p), process)
        process.terminate()
        codes.append(process.wait(timeout=120))
        assert codes[-1] == 143, (name, codes, log.read_text())
        assert workdir.exists() == (name != "import")
    assert status(workdir)["state"] == "preempted"
    assert not (workdir / "metrics.jsonl").exists()
    goes_on(workdir, undisturbed(), 10)
    return Outcome("ended at once; the same command started anew", [*codes, 0])


def sigterm_while_training(directory):
    """SIGTERM while steps run, and a second one at once; on the next start SIGTERM during a save"""
    workdir, codes = directory / "run", []
    process = start(workdir, **LONG)
    wait_for((workdir / "metrics.jsonl").exists, process)
    process.terminate()
    process.terminate()
    codes.append(_preempted(process, workdir))
    process = start(workdir, **LONG)
    wait_for(lambda: status(workdir)["state"] == "running" and saving(workdir), process)
    process.terminate()
    codes.append(_preempted(process, workdir))
    goes_on(workdir, undisturbed(**LONG), 60, **LONG)
    return Outcome("finished the step and saved; the same command went on", [*codes, 0], 0)


def _preempted(process, workdir):
    _, errors = process.communicate(timeout=120)
    stopped = status(workdir)
    assert stopped["state"] == "preempted", errors
    assert 0 < stopped["step"] == saved_steps(workdir)[-1] < 60
    return process.returncode


def ctrl_c(directory):
    """SIGINT, as of Ctrl-C"""
    workdir = directory / "run"
    process = start(workdir, **LONG)
    wait_for((workdir / "metrics.jsonl").exists, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert status(workdir)["state"] == "interrupted"
    assert status(workdir)["step"] == saved_steps(workdir)[-1] < 60
    goes_on(workdir, undisturbed(**LONG), 60, **LONG)
    return Outcome("finished the step and saved; the same command went on", [130, 0], 0)


def sigterm_during_an_evaluation(directory):
    """SIGTERM while training evaluates at step 20"""
    workdir = directory / "run"
    process = start(workdir, **LONG)
    wait_for(lambda: ("train", 20) in events(workdir), process)
    process.terminate()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 143, errors
    assert (status(workdir)["state"], status(workdir)["step"]) == ("preempted", 20)
    assert ("eval", 20) not in events(workdir)
    assert saved_steps(workdir)[-1] == 20
    goes_on(workdir, undisturbed(**LONG), 60, **LONG)
    happened = "left the evaluation between two batches and saved; the same command did it again"
    return Outcome(happened, [143, 0], 0)


def events(workdir):
    """(event, step) of each line of the log so far."""
    if not (workdir / "metrics.jsonl").exists():
        return []
    lines = (workdir / "metrics.jsonl").read_text().split("\n")[:-1]
    return [(line["event"], line["step"]) for line in map(json.loads, lines)]


def evaluate_is_killed(directory):
    """SIGKILL to the command `evaluate` while it evaluates"""
    workdir, log = copy_of_undisturbed(directory), directory / "log"
    before = content(workdir)
    words = [*command("evaluate", workdir), "--split=train", "--config.evaluate.batch_size=1"]
    with log.open("w") as file:
        process = subprocess.Popen(
            words, cwd=ROOT, env=environment(JAX_LOG_COMPILES="1"), stdout=file, stderr=file
        )
    # By then the state is restored and the first batch is at work.
    wait_for(lambda: "jit(sharded)" in log.read_text(), process)
    time.sleep(0.5)
    process.kill()
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert content(workdir) == before
    goes_on(workdir, undisturbed(), 10)
    return Outcome("nothing in the run directory changed", [-9, 0], 0)


def saving(workdir):
    """Whether a save is under way: Orbax writes to a directory that is no number."""
    folder = workdir / "checkpoints"
    return folder.exists() and any(not path.name.isdigit() for path in folder.iterdir())


def sigkill_during_saves(directory, kills=3):
    """SIGKILL at moments at which a checkpoint is being written, three times"""
    workdir, rng, lost = directory / "run", random.Random(0), []
    for _ in range(kills):
        process = start(workdir, **LONG)
        before = saved_steps(workdir)
        wait_for(lambda b=before: saved_steps(workdir) > b, process)
        for _ in range(rng.randrange(1, 4)):
            wait_for(lambda: saving(workdir), process)
        lost.append(_kill(process, workdir))
        assert status(workdir)["state"] == "running"
        assert saved_steps(workdir)
    done = goes_on(workdir, undisturbed(**LONG), 60, **LONG)
    assert "going on from the checkpoint" in done.stdout
    return Outcome(
        f"went on from the last complete save {kills} times", [-9] * kills + [0], max(lost)
    )


def sigkill_at_random_moments(directory, kills=20):
    """SIGKILL at 20 random moments of a process's life, of which the start is a part"""
    workdir, rng, lost, in_saves = directory / "run", random.Random(0), [], 0
    fields = LONG | {"train__duration": "2000 steps", "evaluate__every": "500 steps"}
    expected = undisturbed(**fields)
    begin = time.monotonic()
    shutil.rmtree(directory / "life", ignore_errors=True)
    assert launch("train", directory / "life", train__duration="2 steps").returncode == 0
    life = time.monotonic() - begin
    for _ in range(kills):
        process = start(workdir, **fields)
        end = time.monotonic() + rng.uniform(0, 1.5 * life)
        while time.monotonic() < end and process.poll() is None:
            time.sleep(0.01)
        in_saves += process.poll() is None and saving(workdir)
        lost.append(_kill(process, workdir))
    goes_on(workdir, expected, 2000, **fields)
    happened = f"{kills} kills, {in_saves} during a save: always went on"
    return Outcome(happened, [-9] * kills + [0], max(lost))


def _kill(process, workdir):
    """Kill; returns the steps in the log that no checkpoint has."""
    process.kill()
    process.communicate()
    reached = max((step for _, step in events(workdir)), default=0)
    return max(0, reached - max(saved_steps(workdir), default=0))


# Disks.


def disk_full(directory):
    """A disk that is full at the first save; then one with too little room for the second"""
    first = sum(
        4096 * -(-p.stat().st_size // 4096) for p in _files(undisturbed() / "checkpoints/5")
    )
    state = sum(array.nbytes for array in saved_state(undisturbed(), 5).values())
    with small_disk(directory / "disk", 300_000) as resize:
        workdir = directory / "disk" / "run"
        done = run("train", workdir)
        refused(done, "could not be saved (it needs", "there is no checkpoint yet")
        assert status(workdir)["state"] == "failed"
        # Room for the arrays of the second one, and not for what Orbax writes beside them.
        resize(first + (first + state) // 2 + 24_576)
        done = run("train", workdir)
        message = refused(done, "could not be saved", "the one of step 5 is good", "make room")
        assert saved_steps(workdir) == [5]
        resize(2**30)
        goes_on(workdir, undisturbed(), 10)
    return Outcome(f"`{_short(message)}`; with more room the same command went on", [2, 2, 0], 5)


def _files(directory):
    return [path for path in directory.rglob("*") if path.is_file()]


class small_disk:  # noqa: N801
    """A file system of so many bytes, in a context; gives a function that changes its size."""

    def __init__(self, mountpoint, size):
        self.mountpoint, self.size = mountpoint, size

    def __enter__(self):
        self.mountpoint.mkdir()
        mount("-t", "tmpfs", "-o", f"size={self.size}", "tmpfs", self.mountpoint)
        return lambda size: mount("-o", f"remount,size={size}", self.mountpoint)

    def __exit__(self, *_):
        subprocess.run(["umount", self.mountpoint], check=True)


def mount(*words):
    if os.getuid() != 0 or subprocess.run(["mount", *words], capture_output=True).returncode != 0:
        pytest.skip("mounting needs root")


def file_size_limit(directory):
    """Files that may not grow past 20 kB, which to the writer is a full disk; needs no root"""
    workdir = copy_of_undisturbed(directory)
    shutil.rmtree(workdir / "checkpoints" / "10")
    words = ["bash", "-c", 'ulimit -f 20 && exec "$@"', "bash", *command("train", workdir)]
    limited = subprocess.run(
        words,
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert limited.returncode == 2, limited.stderr
    message = limited.stderr.splitlines()[-1]
    assert "could not be saved" in message
    assert "the one of step 5 is good" in message
    assert status(workdir)["state"] == "failed"
    goes_on(workdir, undisturbed(), 10)
    return Outcome("one line; the checkpoint before it is good", [2, 0], 5)


def read_only_directory(directory):
    """A run directory on a file system that is mounted read-only"""
    workdir = copy_of_undisturbed(directory)
    mount("--bind", workdir, workdir)
    try:
        mount("-o", "remount,bind,ro", workdir)
        message = refused(run("train", workdir), "cannot be written (Read-only file system)")
        assert run("evaluate", workdir).returncode == 0
    finally:
        subprocess.run(["umount", workdir], check=True)
    return Outcome(f"`{_short(message)}`; `evaluate` works", [2, 0])


# Damage.


def largest(checkpoint):
    return max(_files(checkpoint), key=lambda path: path.stat().st_size)


def _truncate(checkpoint):
    path = largest(checkpoint)
    os.truncate(path, path.stat().st_size // 2)


def _flip(checkpoint):
    path = largest(checkpoint)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def _lose_shard(checkpoint):
    largest(checkpoint).unlink()


def _empty(checkpoint):
    shutil.rmtree(checkpoint)
    checkpoint.mkdir()


def _lose_meta(checkpoint):
    (checkpoint / "meta" / "metadata").unlink()


def _newest_is(damage, directory):
    workdir = copy_of_undisturbed(directory)
    damage(workdir / "checkpoints" / "10")
    refused(run("evaluate", workdir), "checkpoints/10", "is damaged")
    done = goes_on(workdir, undisturbed(), 10)
    (line,) = [line for line in done.stdout.splitlines() if "is damaged" in line]
    assert line.startswith("checkpoint of step 10 is damaged (")
    assert line.endswith("): going on from step 5")
    assert (workdir / "damaged" / "10").is_dir()
    return Outcome(f"`{_short(line, 110)}`", [2, 0], 5)


def truncated_checkpoint(directory):
    """The largest file of the newest checkpoint cut in half"""
    return _newest_is(_truncate, directory)


def flipped_bit(directory):
    """One bit of the arrays of the newest checkpoint flipped"""
    return _newest_is(_flip, directory)


def missing_shard(directory):
    """The file with the arrays of the newest checkpoint removed"""
    return _newest_is(_lose_shard, directory)


def empty_checkpoint(directory):
    """The directory of the newest checkpoint emptied"""
    return _newest_is(_empty, directory)


def missing_metadata(directory):
    """The metadata of the newest checkpoint removed"""
    return _newest_is(_lose_meta, directory)


def all_checkpoints_damaged(directory):
    """A bit flipped in every checkpoint"""
    workdir = copy_of_undisturbed(directory)
    for step in saved_steps(workdir):
        _flip(workdir / "checkpoints" / str(step))
    before = content(workdir)
    message = refused(run("train", workdir), "is damaged", "and so are all others")
    assert content(workdir) == before
    return Outcome(f"`{_short(message)}`; nothing was overwritten", [2])


def checkpoint_of_another_model(directory):
    """The checkpoint of a run with averaged weights put into a run without"""
    workdir = copy_of_undisturbed(directory)
    config = json.loads((workdir / "config.json").read_text())
    config["train"]["ema_decay"] = None
    (workdir / "config.json").write_text(json.dumps(config))
    before = content(workdir)
    done = run("train", workdir, train__ema_decay="None")
    message = refused(done, "checkpoints/10", "is of another model or optimiser")
    assert content(workdir) == before
    return Outcome(f"`{_short(message)}`; nothing was overwritten", [2])


def damaged_config(directory):
    """config.json cut in half"""
    workdir = copy_of_undisturbed(directory)
    os.truncate(workdir / "config.json", 300)
    before = content(workdir)
    message = refused(run("train", workdir), "config.json", "cannot be read")
    assert content(workdir) == before
    return Outcome(f"`{_short(message)}`", [2])


def damaged_status_and_log(directory):
    """status.json overwritten with noise; the log cut within a line, noise behind it"""
    workdir = copy_of_undisturbed(directory)
    shutil.rmtree(workdir / "checkpoints" / "10")
    (workdir / "status.json").write_bytes(random.Random(0).randbytes(200))
    whole = (workdir / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    noise = b"\x00\xff\x80{" + random.Random(1).randbytes(50).replace(b"\n", b"") + b"\n"
    (workdir / "metrics.jsonl").write_bytes(b"".join(whole[:2]) + noise + b"".join(whole[2:])[:-9])
    done = goes_on(workdir, undisturbed(), 10)
    assert "metrics.jsonl had 1 lines that cannot be read" in done.stdout
    assert noise in (workdir / "damaged" / "metrics.jsonl").read_bytes()
    return Outcome("told in a line, left out, the file kept in `damaged/`; went on", [0], 5)


# Mistakes.


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
    return Outcome(f"`{_short(message)}`; the first is unharmed", [2, 0], 0)


def config_edited(directory):
    """The same work directory with another learning rate"""
    workdir = copy_of_undisturbed(directory)
    before = content(workdir)
    done = run("train", workdir, optimizer__learning_rate=0.2)
    message = refused(done, "optimizer.learning_rate: 0.1 → 0.2")
    assert content(workdir) == before
    return Outcome(f"`{_short(message)}`", [2])


def file_in_place_of_a_directory(directory):
    """A file where the work directory should be; then one where its checkpoints should be"""
    (directory / "file").write_text("mine")
    message = refused(run("train", directory / "file"), "is no directory")
    workdir = copy_of_undisturbed(directory)
    shutil.rmtree(workdir / "checkpoints")
    (workdir / "checkpoints").write_text("mine")
    refused(run("train", workdir), "checkpoints", "is no directory")
    assert (workdir / "checkpoints").read_text() == (directory / "file").read_text() == "mine"
    return Outcome(f"`{_short(message)}`", [2, 2])


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
    for path in _files(workdir):
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


# Long runs.


def ten_thousand_steps(directory):
    """10,000 steps with 100 saves and 100 evaluations; memory, files and threads watched"""
    workdir = directory / "run"
    intervals = dict.fromkeys(("checkpoint__every", "evaluate__every", "log__every"), "100 steps")
    process = start(workdir, train__duration="10000 steps", log__tensorboard=True, **intervals)
    samples = []
    while process.poll() is None:
        if events(workdir):
            samples.append(_resources(process.pid, events(workdir)[-1][1]))
        time.sleep(0.25)
    assert process.wait() == 0, process.communicate()
    steps, resident, files, threads = np.array([s for s in samples if s], float).T
    warm = steps >= 2000
    slope, error = _slope(steps[warm], resident[warm])
    growth = 10_000 * slope / 2**20
    assert growth - 2 * 10_000 * error / 2**20 < 2, (growth, error)
    assert files[warm].max() <= files[warm][:10].max() + 2
    assert threads[warm].max() <= threads[warm][:10].max() + 2
    happened = (
        f"memory {resident[warm].mean() / 2**20:.0f} MiB, {growth:+.1f} ± "
        f"{10_000 * error / 2**20:.1f} MiB in 10,000 steps ({warm.sum()} samples); "
        f"files {files[warm].min():.0f} to {files[warm].max():.0f}, "
        f"threads {threads[warm].min():.0f} to {threads[warm].max():.0f}"
    )
    return Outcome(happened, [0])


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


def _short(message, length=160):
    message = message.replace(tempfile.gettempdir(), "…")
    return message if len(message) <= length else message[: length - 1] + "…"


QUICK = (
    sigterm_before_the_first_step,
    sigterm_while_training,
    ctrl_c,
    sigterm_during_an_evaluation,
    evaluate_is_killed,
    sigkill_during_saves,
    disk_full,
    file_size_limit,
    read_only_directory,
    truncated_checkpoint,
    flipped_bit,
    missing_shard,
    empty_checkpoint,
    missing_metadata,
    all_checkpoints_damaged,
    checkpoint_of_another_model,
    damaged_config,
    damaged_status_and_log,
    two_processes,
    config_edited,
    file_in_place_of_a_directory,
    clock_jumps,
    divergence,
)
SLOW = (sigkill_at_random_moments, ten_thousand_steps)
BEGIN, END = "<!-- faults.py begins -->", "<!-- faults.py ends -->"


def row(fault):
    """Do a fault; returns its row of the table."""
    with tempfile.TemporaryDirectory() as directory:
        try:
            outcome = fault(Path(directory))
        except pytest.skip.Exception as reason:
            outcome = Outcome(f"left out: {reason}", [])
    codes = " ".join(map(str, dict.fromkeys(outcome.exit_codes)))
    lost = "–" if outcome.steps_lost is None else outcome.steps_lost
    name = fault.__name__.replace("_", " ")
    happened = outcome.happened.replace(directory, "…").replace("|", "\\|")
    return f"| {name} | {fault.__doc__} | {happened} | {codes} | {lost} |"


def machine():
    processor = next(
        (line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "",
    )
    return f"{os.cpu_count()} × {processor.partition(': ')[2] or platform.machine()}, CPU only"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="name of one fault")
    parser.add_argument("--out", type=Path, help="a file whose table is replaced; else printed")
    arguments = parser.parse_args()
    faults = [f for f in (*QUICK, *SLOW) if arguments.only in (None, f.__name__)]
    lines = [
        "| fault | what was done | what happened | exit codes | steps lost |",
        "|---" * 5 + "|",
    ]
    for fault in faults:
        lines.append(row(fault))
        print(lines[-1], flush=True)
    if arguments.out:
        text = arguments.out.read_text()
        before, after = text.partition(BEGIN)[0], text.partition(END)[2]
        table = "\n".join(lines)
        arguments.out.write_text(f"{before}{BEGIN}\nMachine: {machine()}.\n\n{table}\n{END}{after}")


if __name__ == "__main__":
    main()
