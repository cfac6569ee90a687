"""The median rule, and runs that it stops."""

import io
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from resnet_jax.config import Config, override
from resnet_jax.sweeps.early_stop import FEWEST_OTHERS, below_median
from resnet_jax.sweeps.sweep_directory import SweepDirectory
from resnet_jax.training.checkpoint import Checkpoints
from resnet_jax.training.experiment import make_experiment
from resnet_jax.training.metrics_log import evaluations
from resnet_jax.training.progress import Reporter
from resnet_jax.training.run_directory import RunDirectory
from resnet_jax.training.train import train


def others_with(tmp_path_factory, accuracies, **fields):
    """A sweep of runs that have come to step 10 with these accuracies, and one more, `mine`."""
    directory = SweepDirectory(tmp_path_factory.mktemp("sweep"))
    config = override(Config(), fields)
    configs = {"mine": Config()}
    for index, accuracy in enumerate(accuracies):
        configs[str(index)] = config
        directory.run(str(index)).path.mkdir(parents=True)
        directory.run(str(index)).log("eval", 5, accuracy=0.0)
        directory.run(str(index)).log("train", 10, accuracy=0.0)
        directory.run(str(index)).log("eval", 10, accuracy=accuracy)
    return directory, below_median(directory, configs)


@given(st.lists(st.floats(0, 1), min_size=FEWEST_OTHERS, max_size=9), st.floats(0, 1))
def test_a_run_stops_below_the_median_of_the_others(tmp_path_factory, accuracies, mine):
    directory, decide = others_with(tmp_path_factory, accuracies)
    assert decide(directory.run("mine"), 10, mine) == (mine < statistics.median(accuracies))
    assert not decide(directory.run("mine"), 15, mine)


def test_few_others_and_those_on_other_data_do_not_count(tmp_path_factory):
    directory, decide = others_with(tmp_path_factory, [1.0] * (FEWEST_OTHERS - 1))
    assert not decide(directory.run("mine"), 10, 0.0)
    for fields in ({"data.name": "cifar10"}, {"evaluate.crops": 10}):
        directory, decide = others_with(tmp_path_factory, [1.0] * 9, **fields)
        assert not decide(directory.run("mine"), 10, 0.0)


@pytest.mark.parametrize("saves", ["5 steps", "20 steps"])
def test_a_run_that_is_stopped_keeps_what_it_learned(small_config, tmp_path, saves):
    small_config = override(small_config, {"checkpoint.every": saves})
    experiment, run = make_experiment(small_config), RunDirectory(tmp_path / "run")
    run.create(small_config.to_dict())
    asked = []

    def decide(run, step, accuracy):
        asked.append((step, accuracy))
        return True

    reporter = Reporter(Console(file=io.StringIO()))
    assert train(experiment, run, reporter, stop_early=decide) == 0
    status = run.read_status()
    assert (status["state"], status["step"]) == ("stopped", 10)
    assert asked == [(10, status["result"]["accuracy"])]
    with Checkpoints(
        run.checkpoints, evaluations(run.read_metrics()), read_only=True
    ) as checkpoints:
        assert checkpoints.latest() == 10
    # It stays stopped.
    assert train(experiment, run, reporter) == 0
    assert run.read_status()["state"] == "stopped"
