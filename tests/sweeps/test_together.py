"""Runs of one program equal the same runs alone, however they are laid out."""

import io

import jax
import numpy as np
import pytest
from rich.console import Console

from resnet_jax.config import override
from resnet_jax.random_streams import run_key
from resnet_jax.sweeps.together import RunsTogether
from resnet_jax.training.experiment import make_experiment
from resnet_jax.training.interruption import StopRequest
from resnet_jax.training.loop import Loop, train
from resnet_jax.training.programs import Programs
from resnet_jax.training.progress import Reporter
from resnet_jax.training.record import Record
from resnet_jax.training.run_directory import RunDirectory

STEPS = 20
# All that may differ between runs of one program.
RUNS = [
    {},
    {"seed": 2**32 - 1, "optimizer.learning_rate": 0.3, "schedule.name": "cosine"},
    {
        "seed": 5,
        "optimizer.weight_decay": 0.0,
        "optimizer.momentum": 0.5,
        "model.survival_probability": 0.5,
        "train.label_smoothing": 0.3,
        "train.ema_decay": 0.5,
        "train.clip_gradient_norm": 0.1,
        "schedule.warmup": "5 steps",
    },
]
LAYOUTS = {
    "vmap": lambda runs: RunsTogether(runs, jax.devices()[:1], by_map=False),
    "map": lambda runs: RunsTogether(runs, jax.devices()[:1], by_map=True),
    "shard": lambda runs: RunsTogether(runs, jax.devices()[:2], by_map=False),
    "shard and map": lambda runs: RunsTogether(runs, jax.devices()[:2], by_map=True),
}
ALONE = []


@pytest.fixture
def configs(small_config):
    small_config = override(
        small_config,
        {
            "model.dtype": "float64",
            "model.dropout": 0.1,
            "model.survival_probability": 0.8,
            "data.cutout": 3,
            "train.label_smoothing": 0.1,
            "train.ema_decay": 0.9,
            "train.clip_gradient_norm": 1.0,
            "evaluate.batch_size": 100,
        },
    )
    return [override(small_config, overrides) for overrides in RUNS]


def trained(configs, parallel=None):
    """Losses, state and evaluation of each run after `STEPS` steps, in float64."""
    first = make_experiment(configs[0], parallel=parallel)
    experiments, programs = [first.of(config) for config in configs], Programs(first)
    fresh = [programs.initialise(run_key(config.seed)) for config in configs]
    doubled = jax.tree.map(lambda a: a.astype("float64") if a.dtype == "float32" else a, fresh)
    state = first.parallel.stack(doubled)
    numbers = first.parallel.stack([experiment.numbers for experiment in experiments])
    seeds, losses = tuple(config.seed for config in configs), []
    for step in range(STEPS):
        arguments = first.inputs.train(step, seeds)
        state, metrics = programs.training(1)(state, numbers, *arguments)
        losses.append([run["loss"] for run in first.parallel.read(metrics)])
    states = [first.parallel.take(state, run) for run in range(len(configs))]
    return np.array(losses)[..., 0].T, states, programs.evaluate(state, numbers)


@pytest.fixture
def alone(x64, configs):
    if not ALONE:
        ALONE.extend(trained([config]) for config in configs)
    return ALONE


@pytest.mark.parametrize(
    "layout",
    [
        "map",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("vmap", "shard", "shard and map")
        ),
    ],
)
def test_each_of_several_runs_equals_the_run_alone(configs, alone, layout):
    losses, states, results = trained(configs, LAYOUTS[layout](len(configs)))
    for run, (own_losses, (own_state,), (own_result,)) in enumerate(alone):
        np.testing.assert_allclose(losses[run], own_losses[0], rtol=1e-9)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10),
            states[run],
            own_state,
        )
        assert results[run]["accuracy"] == own_result["accuracy"]
        np.testing.assert_allclose(results[run]["loss"], own_result["loss"], rtol=1e-9)
    # They are runs of their own.
    assert len({result["loss"] for result in results}) == len(configs)


class StopAt(Reporter):
    """Ends the training at a step as a crash would."""

    def __init__(self, step=None):
        super().__init__(Console(file=io.StringIO()))
        self.at = step

    def step(self, step, means, images_per_second):
        if step == self.at:
            raise MemoryError("planted")


def run_group(directory, configs, layout, reporter):
    first = make_experiment(configs[0], parallel=LAYOUTS[layout](len(configs)))
    runs = [RunDirectory(directory / str(index)) for index in range(len(configs))]
    for run, config in zip(runs, configs, strict=True):
        run.create(config.to_dict())
    train([first.of(config) for config in configs], runs, reporter)
    return runs


def what_was_written(runs):
    """Metrics without what the clock says, and the state of each run."""
    lines = [
        [{k: v for k, v in line.items() if k != "images_per_second"} for line in run.read_metrics()]
        for run in runs
    ]
    return lines, [run.read_status()["state"] for run in runs]


@pytest.mark.parametrize("layout", ["vmap", pytest.param("shard and map", marks=pytest.mark.slow)])
def test_a_group_that_crashed_goes_on_exactly(small_config, tmp_path, layout):
    seeds = [override(small_config, {"seed": seed}) for seed in (0, 1, 2)]
    undisturbed = run_group(tmp_path / "a", seeds, layout, StopAt())
    with pytest.raises(MemoryError):
        run_group(tmp_path / "b", seeds, layout, StopAt(15))
    states = [RunDirectory(tmp_path / "b" / str(i)).read_status() for i in range(3)]
    assert [status["state"] for status in states] == ["failed"] * 3
    again = run_group(tmp_path / "b", seeds, layout, StopAt())
    assert what_was_written(again) == what_was_written(undisturbed)


def test_a_run_that_was_saved_before_the_crash_goes_back_to_where_all_are(small_config, tmp_path):
    seeds = [override(small_config, {"seed": seed}) for seed in (0, 1)]
    undisturbed = run_group(tmp_path / "a", seeds, "vmap", StopAt())
    with pytest.raises(MemoryError):
        run_group(tmp_path / "b", seeds, "vmap", StopAt(15))
    # The first run alone saves once more, as where a process dies between the saves of a group.
    run = RunDirectory(tmp_path / "b" / "0")
    experiment = make_experiment(override(small_config, {"seed": 0}))
    loop = Loop([Record(experiment, run)], StopAt(), Programs(experiment), StopRequest())
    with loop.records[0]:
        loop.begin()
        assert loop.step == 10
        loop.advance()
        loop.save_if_behind()
    again = run_group(tmp_path / "b", seeds, "vmap", StopAt())
    assert what_was_written(again) == what_was_written(undisturbed)


def test_a_diverged_run_leaves_the_others_alone(small_config, tmp_path):
    def group(name, *rates):
        configs = [override(small_config, {"optimizer.learning_rate": rate}) for rate in rates]
        return run_group(tmp_path / name, configs, "vmap", StopAt())

    together, healthy = group("together", 0.1, 1e30), group("healthy", 0.1, 0.2)
    assert [run.read_status()["state"] for run in together] == ["done", "diverged"]
    assert "not finite at step" in together[1].read_status()["error"]
    assert what_was_written(together[:1]) == what_was_written(healthy[:1])
    assert not list(together[1].checkpoints.glob("[0-9]*"))
    # Once more: nothing is left to do, and the diverged run stays so.
    again = group("together", 0.1, 1e30)
    assert [run.read_status()["state"] for run in again] == ["done", "diverged"]
