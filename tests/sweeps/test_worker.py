"""What a worker does with a group: signals, runs at different steps, memory that does not suffice."""

import json
import os
import signal

import pytest

from resnet_jax.config import override
from resnet_jax.sweeps.sweep_directory import SweepDirectory
from resnet_jax.sweeps.worker import Group, automatic_strategy
from resnet_jax.training import loop
from resnet_jax.training.interruption import StopRequest


@pytest.fixture
def runs(small_config):
    return {f"seed={seed}": override(small_config, {"seed": seed}) for seed in range(4)}


def first(runs, count):
    return {run_id: runs[run_id] for run_id in list(runs)[:count]}


def states(directory):
    paths = sorted(directory.runs.glob("*/status.json"))
    return {path.parent.name: json.loads(path.read_text())["state"] for path in paths}


def train(directory, runs, strategy, signal_at=None):
    """Train a group; SIGTERM comes during the evaluation of a step. Returns the signal."""

    def decide(run, step, accuracy):
        if step == signal_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return False

    with StopRequest() as stop:
        Group(directory, stop, decide).train(runs, strategy, small=True)
        return stop.signal


def test_a_signal_in_the_last_evaluation_of_a_run_stops_the_turns(runs, tmp_path):
    directory = SweepDirectory(tmp_path)
    assert train(directory, first(runs, 2), "turns", signal_at=20) == signal.SIGTERM
    assert states(directory) == {"seed=0": "done"}
    assert train(directory, first(runs, 2), "turns") is None
    assert states(directory) == {"seed=0": "done", "seed=1": "done"}


def test_a_group_with_new_runs_keeps_what_the_others_did(runs, tmp_path, capsys):
    directory = SweepDirectory(tmp_path)
    train(directory, first(runs, 2), "map", signal_at=10)
    assert states(directory) == {"seed=0": "preempted", "seed=1": "preempted"}
    capsys.readouterr()
    assert train(directory, runs, "map") is None
    assert set(states(directory).values()) == {"done"}
    assert capsys.readouterr().out.count("going on from the checkpoint of step 10") == 1


def test_a_group_is_halved_until_it_fits_the_memory(runs, tmp_path, monkeypatch):
    directory, sizes, real = SweepDirectory(tmp_path), [], loop.train

    def train_two_at_most(experiments, directories, *arguments, **options):
        sizes.append(len(experiments))
        if len(experiments) <= 2:
            return real(experiments, directories, *arguments, **options)
        for run in directories:
            run.write_status("failed", 0, 20, error="no memory")
        raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")

    monkeypatch.setattr(loop, "train", train_two_at_most)
    # Stopped in the first half, the second is no failure but not begun.
    train(directory, runs, "vmap", signal_at=10)
    assert [*states(directory).values()] == ["preempted"] * 2 + ["interrupted"] * 2
    train(directory, runs, "vmap")
    assert set(states(directory).values()) == {"done"}
    assert sizes == [4, 2, 2, 2]


def test_a_failure_that_is_none_of_memory_is_told_and_ends_the_group(runs, tmp_path, monkeypatch):
    def fail(experiments, directories, *arguments, **options):
        for run in directories:
            run.write_status("failed", 0, 20, error="planted")
        raise ValueError("planted")

    monkeypatch.setattr(loop, "train", fail)
    directory = SweepDirectory(tmp_path)
    train(directory, first(runs, 2), "map")
    assert states(directory) == {"seed=0": "failed", "seed=1": "failed"}


class Device:
    def __init__(self, platform):
        self.platform = platform


@pytest.mark.parametrize(
    ("platform", "count", "small", "strategy"),
    [
        ("cpu", 1, True, "turns"),
        ("gpu", 1, True, "vmap"),
        ("gpu", 1, False, "turns"),
        ("gpu", 8, False, "shard"),
        ("tpu", 4, True, "shard"),
    ],
)
def test_automatic_strategy(platform, count, small, strategy):
    assert automatic_strategy([Device(platform)] * count, small) == strategy
