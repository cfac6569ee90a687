"""Terminals, schedulers, standard output, inodes and shared memory: what each function's docstring says was done."""

import contextlib
import fcntl
import os
import pty
import resource
import signal
import subprocess
import termios
import time
from pathlib import Path

from commands import ROOT, command, environment, run, saved_steps, start, status, wait_for
from faults_of_files import small_disk
from faulty_runs import LONG, Outcome, events, goes_on, mount, refused, short, undisturbed


def _on_a_terminal(workdir, ignore_hangup=False):
    """A training whose controlling terminal is a new one, and the end that keeps it open."""
    ours, its = pty.openpty()

    def control():
        fcntl.ioctl(its, termios.TIOCSCTTY, 0)
        if ignore_hangup:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

    process = subprocess.Popen(
        command("train", workdir, **LONG),
        cwd=ROOT,
        env=environment(),
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
        preexec_fn=control,
    )
    os.close(its)
    return process, ours


def _close_while_training(process, terminal, workdir, step):
    os.set_blocking(terminal, False)

    def trains():
        # A terminal that nobody reads makes it wait.
        with contextlib.suppress(BlockingIOError):
            os.read(terminal, 2**16)
        return workdir.exists() and saved_steps(workdir)[-1:] > [step]

    wait_for(trains, process)
    os.close(terminal)
    return process.wait(timeout=120)


def terminal_closed(directory):
    """A terminal that is closed while it trains, as by a lost connection; then the same under `nohup`"""
    workdir = directory / "run"
    codes = [_close_while_training(*_on_a_terminal(workdir), workdir, 0)]
    assert codes == [129]
    stopped = status(workdir)
    assert stopped["state"] == "interrupted"
    assert 0 < stopped["step"] == saved_steps(workdir)[-1] < 60
    terminal = _on_a_terminal(workdir, ignore_hangup=True)
    codes.append(_close_while_training(*terminal, workdir, stopped["step"]))
    assert codes == [129, 0], codes
    goes_on(workdir, undisturbed(**LONG), 60, **LONG)
    return Outcome("finished the step and saved; under `nohup` it trained to the end", codes, 0)


def signals_of_schedulers(directory):
    """SIGUSR1, as of Slurm's `--signal`; on the next start the soft limit of its processor time (SIGXCPU)"""
    workdir, codes = directory / "run", []
    # So long that it has not ended before the signal comes.
    fields = LONG | {"train__duration": "200 steps"}
    spent = {
        "SIGUSR1": lambda process: process.send_signal(signal.SIGUSR1),
        "SIGXCPU": lambda process: resource.prlimit(
            process.pid, resource.RLIMIT_CPU, (1, resource.RLIM_INFINITY)
        ),
    }
    for name, send in spent.items():
        before = len(events(workdir))
        process = start(workdir, **fields)
        wait_for(lambda b=before: len(events(workdir)) > b, process)
        send(process)
        _, errors = process.communicate(timeout=120)
        codes.append(process.returncode)
        assert codes[-1] == 128 + signal.Signals[name], errors
        assert status(workdir)["state"] == "preempted"
        assert 0 < status(workdir)["step"] == saved_steps(workdir)[-1] < 200
    goes_on(workdir, undisturbed(**fields), 200, **fields)
    return Outcome("finished the step and saved; the same command went on", [*codes, 0], 0)


def standard_output_closed_and_full(directory):
    """Standard output closed while it trains (`| head -1`), until SIGTERM; then on a full disk (`> /dev/full`)"""
    workdir = directory / "run"
    process = start(workdir, **LONG)
    process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    wait_for(lambda: saved_steps(workdir)[-1:] >= [6], process)
    process.terminate()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 143, errors
    assert errors.splitlines() == [
        "warning: standard output cannot be written (Broken pipe): going on without it"
    ]
    with open("/dev/full", "wb") as full:
        words = command("train", workdir, **LONG)
        done = subprocess.run(words, cwd=ROOT, env=environment(), stdout=full, stderr=full)
    assert done.returncode == 0
    goes_on(workdir, undisturbed(**LONG), 60, **LONG)
    return Outcome("trained on without it, in one line on stderr", [143, 0], 0)


def no_inodes_left(directory):
    """A file system that can take no further file, from before the first to those of the first checkpoint"""
    codes = []
    with small_disk(directory / "disk", 2**30):
        workdir = directory / "disk" / "run"
        # The file system itself takes two.
        for files in (0, 1, 3, 6, 10, 20):
            mount("-o", f"remount,nr_inodes={files + 2}", directory / "disk")
            done = run("train", workdir)
            message = refused(done)
            # TensorStore's name for it, where the long message of an error of its own is cut.
            assert "No space left on device" in message or "RESOURCE_EXHAUSTED" in message
            codes.append(done.returncode)
        # No other status could be written.
        assert status(workdir)["state"] == "running"
        mount("-o", "remount,nr_inodes=10000", directory / "disk")
        goes_on(workdir, undisturbed(), 10)
    happened = f"`{short(message)}`; with more of them the same command trained"
    return Outcome(happened, [*codes, 0])


def no_shared_memory(directory):
    """No /dev/shm, then one of 300 kB, for a training whose images are decoded by processes"""
    workdir, codes = directory / "run", []
    mount("--bind", directory, directory)
    subprocess.run(["umount", directory], check=True)
    fields = {"data__placement": "stream", "train__batch_size": 1400}
    for option in ("ro", "size=300k"):
        script = (
            f'mount --make-rprivate / && mount -t tmpfs -o {option} tmpfs /dev/shm && exec "$@"'
        )
        words = ["unshare", "-m", "bash", "-c", script, "bash"]
        words += command("train", workdir, **fields, data__num_processes=2)
        done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True)
        codes.append(done.returncode)
        message = next(x for x in done.stderr.splitlines() if x.startswith("error: "))
        assert "Traceback" not in done.stderr
        assert "set it to 0" in message
    done = run("train", workdir, **fields, data__num_processes=0)
    assert done.returncode == 0, done.stderr
    happened = (
        f"`{short(message.removeprefix('error: '))}`; without processes the same command trained"
    )
    return Outcome(happened, [*codes, 0])


def signals_to_the_processes_that_decode(directory):
    """SIGTERM to the whole process group while two processes decode; on the next start SIGKILL to the parent alone"""
    workdir = directory / "run"
    fields = LONG | {"data__placement": "stream", "data__num_processes": 2}
    codes = []
    for number in (signal.SIGTERM, signal.SIGKILL):
        before = saved_steps(workdir)
        process = subprocess.Popen(
            command("train", workdir, **fields),
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_for(lambda b=before: saved_steps(workdir) > b, process)
        decoding = _descendants(process.pid)
        assert len(decoding) >= 2
        if number == signal.SIGTERM:
            os.killpg(process.pid, number)
        else:
            process.kill()
        codes.append(process.wait(timeout=120))
        if number == signal.SIGTERM:
            assert status(workdir)["state"] == "preempted"
            assert status(workdir)["step"] == saved_steps(workdir)[-1]
        end = time.monotonic() + 30
        while any(Path(f"/proc/{pid}").exists() for pid in decoding):
            assert time.monotonic() < end, decoding
            time.sleep(0.1)
    assert codes == [143, -9]
    goes_on(workdir, undisturbed(**LONG, data__placement="stream"), 60, **fields)
    return Outcome("finished the step and saved; none of them was left", [*codes, 0], 0)


def _descendants(pid):
    found = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True)
    pairs = [tuple(map(int, line.split())) for line in found.stdout.splitlines()]
    children = [child for child, parent in pairs if parent == pid]
    return children + [each for child in children for each in _descendants(child)]
