"""Terminals, schedulers, standard output, inodes and shared memory: what each function's docstring says was done."""

import fcntl
import os
import pty
import resource
import signal
import subprocess
import termios

from commands import ROOT, command, environment, saved_steps, start, status, wait_for
from faulty_runs import LONG, Outcome, goes_on, undisturbed


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
        try:
            # A terminal that nobody reads would make it wait.
            os.read(terminal, 2**16)
        except BlockingIOError:
            pass
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
    spent = {
        "SIGUSR1": lambda process: process.send_signal(signal.SIGUSR1),
        "SIGXCPU": lambda process: resource.prlimit(
            process.pid, resource.RLIMIT_CPU, (1, resource.RLIM_INFINITY)
        ),
    }
    for name, send in spent.items():
        before = saved_steps(workdir)
        process = start(workdir, **LONG)
        wait_for(lambda b=before: saved_steps(workdir) > b, process)
        send(process)
        _, errors = process.communicate(timeout=120)
        codes.append(process.returncode)
        assert codes[-1] == 128 + signal.Signals[name], errors
        assert status(workdir)["state"] == "preempted"
        assert 0 < status(workdir)["step"] == saved_steps(workdir)[-1] < 60
    goes_on(workdir, undisturbed(**LONG), 60, **LONG)
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
