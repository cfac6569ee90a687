"""The estimate of a sweep's time, from the costs of two networks."""

import re
import subprocess
import sys
import time
from dataclasses import astuple
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from resnet_jax.sweeps import timing
from resnet_jax.sweeps.jobs import Job
from resnet_jax.sweeps.plan import Plan
from resnet_jax.sweeps.timing import CACHED, Cost, costs

ROOT = Path(__file__).parents[2]


def experiment(macs=1, leaves=1, batch_size=1, **fields):
    train = SimpleNamespace(batch_size=batch_size)
    state = [np.zeros(1)] * leaves
    fields = {"total_steps": 10, "evaluate_every": 4.0, "checkpoint_every": 10.0, **fields}
    config = SimpleNamespace(train=train)
    return SimpleNamespace(macs=macs, config=config, state_shapes=lambda: state, **fields)


def test_the_seconds_of_a_run_are_those_of_its_parts():
    cost = Cost(compile=1000.0, run=100.0, step=1.0, evaluation=20.0, save=3.0)
    # Evaluations after steps 4, 8 and 10; one save.
    assert cost.of_run(experiment()) == 100 + 10 * 1 + 3 * 20 + 1 * 3
    assert cost.of_run(experiment(evaluate_every=5.0, checkpoint_every=2.5)) == 100 + 10 + 40 + 12


def test_costs_between_two_timed_networks_are_interpolated(monkeypatch):
    timed = []

    def measure(e):
        timed.append(e.macs)
        leaves, work = len(e.state_shapes()), e.macs * e.config.train.batch_size
        return Cost(2.0 * leaves, 1.0 + leaves, 0.5 + work, 3.0 * work, 0.1 * leaves)

    monkeypatch.setattr(timing, "measure", measure)
    nets = [experiment(macs, leaves, 2) for macs, leaves in ((5, 30), (1, 10), (9, 50), (3, 20))]
    for cost, net in zip(costs(nets), nets, strict=True):
        exact = measure(net)
        assert astuple(cost) == pytest.approx(astuple(exact))
    assert timed[:2] == [1, 9]
    timed.clear()
    alike = [experiment(4, 20) for _ in range(3)]
    assert costs(alike) == [measure(alike[0])] * 3
    assert len(timed) == 2
    # As deep, but wider: nothing is known of arrays that are equally many.
    wider = costs([experiment(1, 20), experiment(3, 20), experiment(2, 20)])
    assert [cost.step for cost in wider] == pytest.approx([1.5, 3.5, 2.5])
    assert [cost.compile for cost in wider] == pytest.approx([40.0] * 3)


def test_the_seconds_of_jobs_have_a_start_each_and_a_compilation_for_each_program():
    facts = {run: {"seconds": 10.0, "compile": 5.0} for run in "abc"}
    plan = Plan(facts, [["a", "b"], ["c"]], {}, {}, start_up=2.0, checking=3.0)
    assert plan.seconds([]) == 3
    assert plan.seconds([Job(("a", "b")), Job(("c",))]) == 3 + (2 + 5 + 20) + (2 + 5 + 10)
    apart = plan.seconds([Job(("a",)), Job(("b",)), Job(("c",))])
    assert apart == pytest.approx(3 + 3 * 12 + 5 + CACHED * 5 + 5)


STUDY = '''"""Depths."""
from resnet_jax.config import default_config
from resnet_jax.sweeps.grid import product

def get_config():
    config = default_config()
    config.train.duration = "2 epochs"
    config.schedule.name = "cosine"
    config.schedule.warmup = "1.5 epochs"
    return config

def sweep():
    return product({"model.depth": (8, 14), "model.shortcut": ("none", "A"), "seed": range(2)})
'''


@pytest.mark.slow
def test_a_dry_run_estimates_the_time_of_the_sweep_within_a_factor_of_two(tmp_path):
    (tmp_path / "study.py").write_text(STUDY)
    words = [
        sys.executable,
        str(ROOT / "launch.py"),
        "sweep",
        "--config=study.py",
        "--workdir=study",
    ]
    listed = subprocess.run(
        [*words, "--dry_run"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "warning: depth=8,shortcut=none,seed=0, " in listed.stderr
    assert "takes 17 of the 22 steps" in listed.stderr
    number, unit = re.search(r"about (\d+) (s|min)", listed.stdout).groups()
    estimate = int(number) * {"s": 1, "min": 60}[unit]
    start = time.monotonic()
    subprocess.run(words, cwd=tmp_path, capture_output=True, check=True)
    assert 0.5 < estimate / (time.monotonic() - start) < 2
