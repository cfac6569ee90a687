"""Two processes with four devices each, as a user starts them, against one process with eight."""

import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
from functools import partial

import jax
import numpy as np
import pytest
from commands import (
    ROOT,
    command,
    metrics,
    saved_state,
    saved_steps,
    status,
    wait_for,
)

from resnet_jax.cli import main

# In float64 a sum over devices differs by its order only far behind the digits that are compared.
FIELDS = {
    "model__dtype": "float64",
    "train__duration": "4 steps",
    "log__every": "1 step",
    "evaluate__every": "4 steps",
    "checkpoint__every": "2 steps",
    "parallel__num_devices": 8,
}
TOLERANCE = 1e-5


def start_two(
    name, workdir, *options, processes=2, last=(), before_last=(), limit=None, **overrides
):
    """Start a command in processes that see four devices each.

    The last one has options of its own, words before its command, and files of at most `limit` bytes.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
        "JAX_NUM_CPU_DEVICES": "4",
        "JAX_ENABLE_X64": "1",
    }
    words = [*command(name, workdir, **overrides), *options, f"--coordinator=127.0.0.1:{port}"]
    return [
        subprocess.Popen(
            [
                *(before_last if index == processes - 1 else ()),
                *words, f"--num_processes={processes}", f"--process_id={index}",
                *(last if index == processes - 1 else ()),
            ],
            cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            preexec_fn=partial(_limit_files, limit) if index == processes - 1 and limit else None,
        )
        for index in range(processes)
    ]  # fmt: skip


def _limit_files(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def finish(processes, codes=(0, 0), seconds=500):
    """Wait for all; returns what each printed and told, without what Gloo says."""
    try:
        told = [process.communicate(timeout=seconds) for process in processes]
    finally:
        for process in processes:
            process.kill()
    clean = [tuple(_without_gloo(text) for text in texts) for texts in told]
    assert tuple(process.returncode for process in processes) == codes, clean
    return clean


def _without_gloo(text):
    # Its threads write into each other's lines.
    lines = text.splitlines(True)
    return "".join(line for line in lines if not re.search(r"\[Gloo\]|peer ranks|^\s*$", line))


def one_process(workdir, **overrides):
    """The same training in this process, on its eight devices."""
    with jax.enable_x64(True):
        assert main(command("train", workdir, **overrides)[2:]) == 0


def assert_close(first, second, step):
    one, other = metrics(first), metrics(second)
    assert [(m["event"], m["step"]) for m in one] == [(m["event"], m["step"]) for m in other]
    for a, b in zip(one, other, strict=True):
        numbers = {name: value for name, value in a.items() if isinstance(value, float)}
        assert {name: b[name] for name in numbers} == pytest.approx(numbers, rel=TOLERANCE)
    saved, expected = saved_state(first, step), saved_state(second, step)
    assert saved.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(saved[name], array, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A run of two processes, and what they printed."""
    workdir = tmp_path_factory.mktemp("hosts") / "two [2]"
    return workdir, finish(start_two("train", workdir, **FIELDS))


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("hosts") / "one"
    one_process(workdir, **FIELDS)
    return workdir


def without_last_step(workdir, copy):
    shutil.copytree(workdir, copy)
    shutil.rmtree(copy / "checkpoints" / "4")
    return copy


def test_two_processes_compute_what_one_does(two, one):
    workdir, _ = two
    assert_close(workdir, one, 4)
    assert status(workdir)["state"] == "done"
    assert status(workdir)["result"]["examples"] == 360
    assert len(status(workdir)["devices"]) == 8


def test_the_first_process_alone_tells_and_writes(two):
    _, ((printed, told), other) = two
    assert "8 × cpu (jit), 2 processes" in printed
    assert "train step       4" in printed
    assert (told, *other) == ("", "", "")


def test_one_process_goes_on_from_a_checkpoint_of_two(two, tmp_path):
    workdir = without_last_step(two[0], tmp_path / "run")
    one_process(workdir, **FIELDS)
    assert_close(workdir, two[0], 4)


@pytest.mark.slow
def test_two_processes_go_on_from_one_with_a_sharded_state(one, tmp_path):
    workdir = without_last_step(one, tmp_path / "run")
    finish(start_two("train", workdir, **FIELDS | {"parallel__fsdp": 8}))
    assert_close(workdir, one, 4)


def test_two_processes_evaluate_every_example_once(two):
    # 360 examples in batches of 56: the last has 24, and 32 that do not count.
    options = ("--json", "--config.evaluate.batch_size=56", "--config.parallel.mode=pmap")
    (printed, _), (other, _) = finish(start_two("evaluate", two[0], *options))
    result = json.loads(printed.splitlines()[-1])
    assert result["examples"] == 360
    assert result["accuracy"] == status(two[0])["result"]["accuracy"]
    assert result["loss"] == pytest.approx(status(two[0])["result"]["loss"], rel=TOLERANCE)
    assert other == ""


@pytest.mark.slow
def test_what_is_wrong_is_told_once(two):
    fields = FIELDS | {"checkpoint__every": "3 steps"}
    (_, told), (_, other) = finish(start_two("train", two[0], **fields), codes=(2, 2))
    assert "checkpoint.every: 2 → 3" in told
    assert (told.count("\n"), other) == (1, "")


@pytest.mark.slow
@pytest.mark.parametrize("last", ["--config.seed=5", "--workdir={}/other"])
def test_processes_of_different_commands_end_before_anything_is_written(two, tmp_path, last):
    workdir = shutil.copytree(two[0], tmp_path / "run") if "workdir" in last else tmp_path / "run"
    before = sorted(workdir.rglob("*"))
    options = {"last": [last.format(tmp_path)]}
    (_, told), (_, other) = finish(start_two("train", workdir, **options, **FIELDS), codes=(2, 2))
    assert "process 1 has" in told
    assert (told.count("\n"), other) == (1, "")
    assert sorted(workdir.rglob("*")) == before
    assert not (tmp_path / "other").exists()


LONG = FIELDS | {
    "train__duration": "60 steps",
    "evaluate__every": "60 steps",
    "checkpoint__every": "10 steps",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("placement", "mode"), [("device", "jit"), ("stream", "jit"), ("stream", "pmap")]
)
def test_a_signal_to_one_process_stops_both_at_one_step(tmp_path, placement, mode):
    fields = LONG | {"data__placement": placement, "parallel__mode": mode}
    expected, workdir = tmp_path / "undisturbed", tmp_path / "run"
    finish(start_two("train", expected, **fields))
    processes = start_two("train", workdir, **fields)
    wait_for(lambda: (workdir / "metrics.jsonl").exists(), processes[0])
    processes[1].send_signal(signal.SIGTERM)
    finish(processes, codes=(143, 143))
    stopped = status(workdir)
    assert stopped["state"] == "preempted"
    assert 0 < stopped["step"] == saved_steps(workdir)[-1] < 60
    finish(start_two("train", workdir, **fields))
    assert metrics(workdir) == metrics(expected)
    saved, undisturbed = saved_state(workdir, 60), saved_state(expected, 60)
    for name, array in undisturbed.items():
        np.testing.assert_array_equal(saved[name], array)
    # The order of the data is that of one process.
    assert metrics(workdir)[0]["loss"] == pytest.approx(
        _first_loss(tmp_path, fields), rel=TOLERANCE
    )


def _first_loss(tmp_path, fields):
    one_process(tmp_path / "one", **fields | {"train__duration": "1 step"})
    return metrics(tmp_path / "one")[0]["loss"]


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_others_and_the_run_goes_on(tmp_path, killed):
    workdir = tmp_path / "run"
    processes = start_two("train", workdir, **LONG)
    wait_for(lambda: saved_steps(workdir) if workdir.exists() else [], processes[0])
    processes[killed].kill()
    # By the connection that the system closes, and not by a time-out.
    told = [process.communicate(timeout=20)[1] for process in processes]
    assert processes[killed].returncode == -signal.SIGKILL
    assert processes[1 - killed].returncode == 1
    (line,) = _without_gloo(told[1 - killed]).splitlines()
    assert f"process {killed} of 2 ended: it was killed" in line
    finish(start_two("train", workdir, **LONG))
    assert (status(workdir)["state"], status(workdir)["step"]) == ("done", 60)
