"""Faults by signals: each does to a real run what its docstring says, and returns what came of it."""

import random
import signal
import subprocess
import time
from pathlib import Path

import test_hosts
from commands import ROOT, command, environment, launch, saved_steps, start, status, wait_for
from faulty_runs import (
    LONG,
    Outcome,
    content,
    copy_of_undisturbed,
    events,
    goes_on,
    saving,
    start_told,
    undisturbed,
)


def sigterm_before_the_first_step(directory):
    """SIGTERM while JAX is imported, while the state is initialised, and while the step is compiled"""
    workdir, log = directory / "run", directory / "log"
    moments = {
        # Another library of jaxlib is read for the flags that it knows before the command begins.
        "import": lambda process: "jaxlib/_jax" in Path(f"/proc/{process.pid}/maps").read_text(),
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
    fields = LONG | {"train__duration": "200 steps", "evaluate__every": "50 steps"}
    expected = undisturbed(**fields)
    begin = time.monotonic()
    assert launch("train", directory / "life", train__duration="2 steps").returncode == 0
    life = time.monotonic() - begin
    for _ in range(kills):
        process = start(workdir, **fields)
        end = time.monotonic() + rng.uniform(0, 1.5 * life)
        while time.monotonic() < end and process.poll() is None:
            time.sleep(0.01)
        in_saves += process.poll() is None and saving(workdir)
        lost.append(_kill(process, workdir))
    goes_on(workdir, expected, 200, **fields)
    happened = f"{kills} kills, {in_saves} during a save: always went on"
    return Outcome(happened, [-9] * kills + [0], max(lost))


def _kill(process, workdir):
    """Kill; returns the steps in the log that no checkpoint has."""
    process.kill()
    process.communicate()
    reached = max((step for _, step in events(workdir)), default=0)
    return max(0, reached - max(saved_steps(workdir), default=0))


def sigterm_to_one_of_two_processes(directory):
    """SIGTERM to one of two processes that train one run"""
    test_hosts.test_a_signal_to_one_process_stops_both_at_one_step(directory, "device", "jit")
    happened = "both stopped at the same step and saved; the same command went on"
    return Outcome(happened, [143, 143, 0, 0], 0)


def sigkill_to_one_of_two_processes(directory):
    """SIGKILL to the second of two processes that train one run"""
    test_hosts.test_a_killed_process_ends_the_others_and_the_run_goes_on(directory, 1)
    happened = "the other ended within seconds, in one line; the same command went on"
    return Outcome(happened, [-9, 1, 0, 0])
