"""The loop, with signals at chosen moments."""

import io
import os
import signal

import pytest
from rich.console import Console

from resnet_jax.config import override
from resnet_jax.training.checkpoint import Checkpoints
from resnet_jax.training.experiment import make_experiment
from resnet_jax.training.progress import Reporter
from resnet_jax.training.run_directory import RunDirectory
from resnet_jax.training.train import train


class SignalAtEvent(Reporter):
    """Sends this process a signal when a line of the log is told."""

    def __init__(self, event, step):
        super().__init__(Console(file=io.StringIO()))
        self.at = event, step

    def event(self, line, name=""):
        if (line["event"], line["step"]) == self.at:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(("event", "step"), [("eval", 7), ("train", 5), ("eval", 14)])
def test_a_signal_during_log_or_evaluation_saves_that_step(small_config, tmp_path, event, step):
    small_config = override(small_config, {"evaluate.every": "7 steps"})
    experiment = make_experiment(small_config)
    run = RunDirectory(tmp_path / "run")
    run.create(small_config.to_dict())
    assert train(experiment, run, SignalAtEvent(event, step)) == 143
    assert (run.read_status()["state"], run.read_status()["step"]) == ("preempted", step)
    with Checkpoints(run.checkpoints, {}, read_only=True) as checkpoints:
        assert checkpoints.latest() == step
