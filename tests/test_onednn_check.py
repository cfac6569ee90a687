"""oneDNN is used only where a separate process found it right, and the answer is kept."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax import onednn_check, onednn_trial
from resnet_jax.models import loop_safe
from resnet_jax.onednn_check import kept_answer, onednn_fault
from resnet_jax.onednn_trial import faults

# What ends as a trial would: (program, what is answered).
FAKES = {
    "right": ("pass", None),
    "wrong": ("print('the result is wrong'); raise SystemExit(1)", "the result is wrong"),
    "crash": ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
    "exception": ("raise ImportError('no jax')", "ImportError: no jax"),
    "hang": ("import time; time.sleep(600)", "more than 2 seconds"),
}


def fake(name: str, log: Path) -> list[str]:
    note = f"open({str(log)!r}, 'a').write('tried\\n'); "
    return [sys.executable, "-S", "-c", note + FAKES[name][0]]


@pytest.mark.parametrize("name", FAKES)
def test_each_end_of_a_trial_is_an_answer_that_is_kept(name, tmp_path):
    log, said = tmp_path / "log", FAKES[name][1]
    for _ in range(2):
        answer = kept_answer(tmp_path, fake(name, log), seconds=2)
        assert answer is None if said is None else said in answer
    assert log.read_text() == "tried\n"


def test_another_jaxlib_or_processor_is_tried_again(tmp_path, monkeypatch):
    log = tmp_path / "log"
    kept_answer(tmp_path, fake("right", log))
    for change in (
        ("importlib.metadata.version", lambda _: "0.99"),
        ("_processor", lambda: "another"),
    ):
        monkeypatch.setattr(f"resnet_jax.onednn_check.{change[0]}", change[1])
        kept_answer(tmp_path, fake("right", log))
    assert log.read_text() == "tried\n" * 3


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_a_corrupt_answer_is_replaced(content, tmp_path):
    log = tmp_path / "log"
    kept_answer(tmp_path, fake("wrong", log))
    (kept,) = tmp_path.glob("*.json")
    kept.write_text(content)
    assert "wrong" in kept_answer(tmp_path, fake("wrong", log))
    assert "wrong" in json.loads(kept.read_text())["fault"]


def test_without_a_directory_it_is_tried_each_time(tmp_path):
    log = tmp_path / "log"
    for _ in range(2):
        assert kept_answer(None, fake("right", log)) is None
    assert log.read_text() == "tried\n" * 2


def test_elsewhere_it_is_not_tried(monkeypatch):
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("tried"))
    for system, machine in (("Darwin", "arm64"), ("Linux", "aarch64"), ("Windows", "AMD64")):
        monkeypatch.setattr("platform.system", lambda system=system: system)
        monkeypatch.setattr("platform.machine", lambda machine=machine: machine)
        assert "Linux" in onednn_fault.__wrapped__("float32")
    monkeypatch.undo()
    assert onednn_fault.__wrapped__("float64") is not None


def test_the_trial_accepts_what_is_right_and_names_what_is_not():
    """By XLA's own convolutions, right, and with one entry that is off by a fiftieth."""
    right = loop_safe.PASSES
    assert list(faults(right, "float32")) == []

    def off(function):
        def wrong(*arguments, **named):
            array = function(*arguments, **named)
            return array.at[(0,) * array.ndim].multiply(jnp.asarray(1.02, array.dtype))

        return wrong

    for index, name in enumerate(onednn_trial.PASSES):
        wrong = right._replace(**{right._fields[index]: off(right[index])})
        named = list(faults(wrong, "float32"))
        assert named
        assert all(name in fault for fault in named)
    nothing = right._replace(forward=lambda *a, **n: right.forward(*a, **n) * np.nan)
    assert list(faults(nothing, "float32"))


def test_the_command_of_a_trial_is_right_here():
    if reason := onednn_fault("float32"):
        pytest.skip(reason)
    words = [sys.executable, *onednn_check.TRIAL, "float32"]
    ended = subprocess.run(words, capture_output=True, text=True, env=os.environ)
    assert (ended.returncode, ended.stdout) == (0, "")
