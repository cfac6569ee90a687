"""The command line as a user runs it, in processes of its own."""

import atexit
import functools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp

ROOT = Path(__file__).parent.parent.parent
SMALL = {
    "data.pad": 1,
    "train.duration": "10 steps",
    "train.batch_size": 16,
    "train.ema_decay": 0.9,
    "schedule.warmup": 0,
    "log.every": "2 steps",
    "evaluate.every": "5 steps",
    "checkpoint.every": "5 steps",
}


def command(name, workdir, **overrides):
    """Words of `launch.py NAME` for a small ResNet-8 on digits."""
    words = [sys.executable, "launch.py", name, f"--workdir={workdir}"]
    if name == "train":
        fields = SMALL | {key.replace("__", "."): value for key, value in overrides.items()}
        words.append("--config=configs/digits.py")
        words.extend(f"--config.{field}={value}" for field, value in fields.items())
    return words


def environment(**variables):
    """One device, compiled as for a user who chose no flags."""
    return os.environ | {"XLA_FLAGS": ""} | variables


def launch(name, workdir, *options, **overrides):
    """Run to the end; returns the finished process with its text."""
    words = [*command(name, workdir, **overrides), *options]
    return subprocess.run(
        words, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300
    )


def start(workdir, **overrides):
    """Start a training and return its process."""
    words = command("train", workdir, **overrides)
    pipe = subprocess.PIPE
    return subprocess.Popen(words, cwd=ROOT, env=environment(), stdout=pipe, stderr=pipe, text=True)


def wait_for(condition, process, seconds=120):
    """Wait until `condition()` holds while the process lives."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


def status(workdir):
    return json.loads((workdir / "status.json").read_text())


CLOCK = ("images_per_second", "input_wait")


def metrics(workdir):
    """Lines of metrics.jsonl without what depends on the clock."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in CLOCK} for line in lines]


def saved_steps(workdir):
    names = (path.name for path in (workdir / "checkpoints").glob("*"))
    return sorted(int(name) for name in names if name.isdigit())


def saved_state(workdir, step):
    """All arrays of a checkpoint by name, read without this project's code."""
    path = (workdir / "checkpoints" / str(step) / "state").absolute()
    with ocp.PyTreeCheckpointer() as checkpointer:
        tree = checkpointer.metadata(path).item_metadata.tree
        restored = checkpointer.restore(
            path, restore_args=_map(tree, lambda _: ocp.RestoreArgs(restore_type=np.ndarray))
        )
    return {name: array for name, array in _flatten(restored).items() if array is not None}


def _map(tree, function):
    if isinstance(tree, dict):
        return {key: _map(value, function) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_map(value, function) for value in tree]
    return function(tree)


def _flatten(tree, prefix=""):
    if isinstance(tree, dict):
        items = tree.items()
    elif isinstance(tree, list | tuple):
        items = enumerate(tree)
    else:
        return {prefix: tree}
    flat = {}
    for key, value in items:
        flat.update(_flatten(value, f"{prefix}/{key}"))
    return flat


def assert_same_run(workdir, expected, step):
    """Bit-identical state at a step, and the same metrics."""
    actual_state, expected_state = saved_state(workdir, step), saved_state(expected, step)
    assert actual_state.keys() == expected_state.keys()
    for name, array in expected_state.items():
        np.testing.assert_array_equal(actual_state[name], array, err_msg=name)
    assert metrics(workdir) == metrics(expected)


SERVER = """
import contextlib, io, json, sys
sys.path.insert(0, "")
from resnet_jax.cli import main
for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(json.loads(line))
        except SystemExit as stop:
            code = stop.code
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""


class CommandLine:
    """A process that runs one command after another; it imports JAX once."""

    def __init__(self):
        pipe = subprocess.PIPE
        words = [sys.executable, "-c", SERVER]
        self._process = subprocess.Popen(
            words, cwd=ROOT, env=environment(), stdin=pipe, stdout=pipe, text=True
        )
        self.pid = self._process.pid
        atexit.register(self._process.kill)

    def run(self, *words):
        """Run `launch.py WORDS`; returns the finished process with its text."""
        print(json.dumps([str(word) for word in words]), file=self._process.stdin, flush=True)
        code, out, err = json.loads(self._process.stdout.readline())
        return subprocess.CompletedProcess(words, code, out, err)


@functools.cache
def command_line():
    """The one of this process."""
    return CommandLine()


def run(name, workdir, *options, **overrides):
    """As `launch`, in a process that has run other commands before."""
    return command_line().run(*command(name, workdir, **overrides)[2:], *options)
