"""Signals, sent to processes that import no JAX."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from resnet_jax.training.interruption import SIGNALS, StopRequest

# What ends a process unless it says otherwise, by `man 7 signal`, and is sent from outside.
SENT = {
    "SIGHUP": 129,
    "SIGINT": 130,
    "SIGQUIT": 131,
    "SIGUSR1": 138,
    "SIGUSR2": 140,
    "SIGALRM": 142,
    "SIGTERM": 143,
    "SIGXCPU": 152,
    "SIGPWR": 158,
}
BEGIN = """
import os, signal, sys, time
from resnet_jax.training import interruption
from resnet_jax.training.interruption import SIGNALS, StopRequest
"""


def run(body):
    words = [sys.executable, "-c", BEGIN + body]
    return subprocess.run(words, capture_output=True, text=True, timeout=60)


def test_every_signal_that_ends_a_process_is_noted():
    body = """
for number in SIGNALS:
    with StopRequest() as stop:
        os.kill(os.getpid(), number)
        print(signal.Signals(stop.signal).name, SIGNALS[number][0])
"""
    done = run(body)
    assert done.returncode == 0, done.stderr
    noted = dict(line.split() for line in done.stdout.splitlines())
    assert noted == {name: str(code) for name, code in SENT.items()}


@pytest.mark.parametrize("name", ["SIGHUP", "SIGXCPU"])
def test_while_there_is_nothing_to_save_they_end_the_process_at_once(name):
    body = f"""
with StopRequest(at_once=True) as stop:
    stop.last_words = lambda state: print(state, flush=True)
    os.kill(os.getpid(), signal.{name})
    print("still there")
"""
    done = run(body)
    assert done.returncode == SENT[name]
    assert done.stdout == SIGNALS[signal.Signals[name]][1] + "\n"


@pytest.mark.parametrize("name", ["SIGINT", "SIGQUIT", "SIGTERM"])
def test_a_second_key_ends_the_work_and_a_second_other_signal_does_not(name):
    body = f"""
with StopRequest() as stop:
    os.kill(os.getpid(), signal.{name})
    try:
        os.kill(os.getpid(), signal.{name})
        print("goes on")
    except KeyboardInterrupt:
        print("ends")
"""
    assert run(body).stdout == ("goes on\n" if name == "SIGTERM" else "ends\n")


def test_ignored_signals_and_handlers_of_others_stay():
    def handler(number, frame):
        seen.append(number)

    seen = []
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGUSR1)}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, handler)
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGUSR1)
            assert stop.signal is None
        assert seen == [signal.SIGUSR1]
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGUSR1) == handler
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def test_one_within_another_notes_and_leaves_the_outer_in_place():
    with StopRequest() as outer:
        with StopRequest() as inner:
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGUSR2)
    assert (inner.signal, outer.signal) == (signal.SIGTERM, signal.SIGUSR2)


def test_a_thread_of_a_program_may_train():
    def train():
        with StopRequest() as stop:
            noted.append(stop.signal)

    noted = []
    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert noted == [None]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_what_is_deferred_is_kept_before_the_process_ends(name):
    body = f"""
with interruption.ended_at_once(), interruption.deferred() as stop:
    os.kill(os.getpid(), signal.{name})
    print("kept", flush=True)
print("still there")
"""
    done = run(body)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.Signals[name], "kept\n", "")


def test_ctrl_c_is_not_lost_in_native_code_and_python_has_it_back_afterwards():
    # An exception in a destructor is printed and lost, as one in a callback of JAX is.
    body = """
class Native:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
with interruption.ended_at_once():
    pass
assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
with interruption.ended_at_once():
    Native()
    print("still there", flush=True)
"""
    done = run(body)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
