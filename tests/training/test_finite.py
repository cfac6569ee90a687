"""What is not finite ends a run, is no result, and is never written as one."""

import io
import json
import math
from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from resnet_jax.cli import main
from resnet_jax.config import override
from resnet_jax.report.run import read_run
from resnet_jax.sweeps.jobs import state
from resnet_jax.sweeps.live import RunView
from resnet_jax.training.checkpoint import Checkpoints
from resnet_jax.training.experiment import make_experiment
from resnet_jax.training.metrics_log import evaluations
from resnet_jax.training.progress import Reporter
from resnet_jax.training.run_directory import RunDirectory
from resnet_jax.training.state import TrainState, snapshot
from resnet_jax.training.steps import eval_step
from resnet_jax.training.train import train


def strict(text):
    """JSON as other readers take it."""

    def refuse(constant):
        raise ValueError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def spoilt(state, value=np.nan):
    """The state with weights that evaluation uses, and training does not read, not finite."""
    return jax.tree.map(lambda a: a + jnp.asarray(value, a.dtype), state)


class SpoiltEvaluation:
    """Programs that evaluate running statistics which are not finite from some call on."""

    def __init__(self, programs, first):
        self.programs, self.left = programs, first
        self.initialise, self.training = programs.initialise, programs.training

    def evaluate(self, state, numbers, is_stopped=lambda: False):
        self.left -= 1
        if self.left < 0:
            state = TrainState(**{**vars(state), "batch_stats": spoilt(state.batch_stats)})
        return self.programs.evaluate(state, numbers, is_stopped)


def test_a_run_whose_evaluation_is_not_finite_has_diverged(small_config, tmp_path):
    experiment, run = make_experiment(small_config), RunDirectory(tmp_path / "run")
    run.create(small_config.to_dict())
    reporter, asked = Reporter(Console(file=io.StringIO())), []

    def stop_early(run, step, accuracy):
        asked.append(step)
        return False

    other = replace(experiment, programs=SpoiltEvaluation(experiment.programs, 1))
    assert train(other, run, reporter, stop_early) == 3
    status = strict((run.path / "status.json").read_text())
    assert (status["state"], status["step"]) == ("diverged", 20)
    assert status["error"] == "the evaluation is not finite at step 20"
    lines = [strict(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    first = [line for line in lines if line["event"] == "eval"]
    assert [(line["step"], line["weights"]) for line in first] == [(10, "raw")]
    # What is left is the last good evaluation; no rule or search is told of the other.
    assert status["result"]["accuracy"] == first[0]["accuracy"]
    assert asked == [10]
    with Checkpoints(run.checkpoints, evaluations(lines), read_only=True) as checkpoints:
        assert checkpoints.latest() == 10
    # It stays so.
    assert train(experiment, run, reporter) == 3


@pytest.mark.parametrize(
    ("logits", "finite"),
    [([[3.0, -2.0]], True), ([[3.0, -np.inf]], False), ([[np.nan, 1.0]], False)],
)
def test_an_evaluation_is_finite_only_where_all_logits_are(logits, finite):
    # The loss of a class whose logit is not the infinite one is finite.
    network = SimpleNamespace(evaluate=lambda *_: jnp.array([*logits, [0.0, 0.0]]))
    weights = {"params": {}, "batch_stats": {}}
    batch = {
        "image": jnp.zeros((2, 1)),
        "label": jnp.zeros(2, int),
        "mask": jnp.array([True, True]),
    }
    assert math.isfinite(eval_step(weights, batch, network)["loss"]) == finite
    # What only fills a batch does not count.
    filled = batch | {"mask": jnp.array([False, True])}
    assert math.isfinite(eval_step(weights, filled, network)["loss"])


@pytest.mark.parametrize("part", ["params", "batch_stats", "opt_state", "ema"])
def test_no_part_of_a_state_is_saved_that_is_not_finite(part):
    parts = {name: {"a": jnp.ones(2)} for name in ("params", "batch_stats", "opt_state", "ema")}
    good = TrainState(step=jnp.int32(1), **parts)
    good.opt_state = {"a": jnp.ones(2), "best": jnp.float32(np.inf)}
    assert snapshot(good)[1]
    setattr(good, part, {"a": jnp.array([1.0, np.inf])})
    assert not snapshot(good)[1]


OLD_LINES = """\
{"event": "eval", "step": 10, "epoch": 0.1, "loss": 2.0, "accuracy": 0.3, "examples": 9}
{"event": "train", "step": 15, "epoch": 0.2, "loss": 1.5, "accuracy": 0.4}
{"event": "eval", "step": 20, "epoch": 0.2, "loss": NaN, "accuracy": 0.9, "examples": 9}
"""
OLD_STATUS = {"state": "done", "step": 20, "total_steps": 20, "seconds": 1.0}


@pytest.fixture
def old_run(small_config, tmp_path):
    """A run of a version that wrote an evaluation which was not finite as a result."""
    run = RunDirectory(tmp_path / "run")
    run.create(small_config.to_dict())
    (run.path / "metrics.jsonl").write_text(OLD_LINES)
    result = {"loss": math.nan, "accuracy": 0.9, "examples": 9, "split": "test"}
    (run.path / "status.json").write_text(json.dumps(OLD_STATUS | {"result": result}))
    return run


def test_results_of_earlier_versions_that_are_not_finite_are_none(old_run):
    assert list(evaluations(old_run.read_metrics())) == [10]
    assert state(old_run) == "diverged"
    assert "result" not in old_run.read_status()
    view = RunView(old_run)
    view.refresh()
    assert (view.state, view.accuracy, view.loss) == ("diverged", 0.3, 1.5)
    reported = read_run("run", old_run, {"config": {}})
    assert (reported.state, reported.final_error("test")) == ("diverged", None)
    assert reported.test.error.tolist() == [70.0]
    # Written again, the files are JSON.
    assert old_run.forget_after(20) == 0
    lines = (old_run.path / "metrics.jsonl").read_text().splitlines()
    assert [strict(line)["step"] for line in lines] == [10, 15]


def test_commands_refuse_a_network_whose_outputs_are_not_finite(small_config, tmp_path, capsys):
    # As saved by a version that did not look at the weights.
    small_config = override(small_config, {"train.ema_decay": 0.9})
    experiment, run = make_experiment(small_config), RunDirectory(tmp_path / "run")
    run.create(small_config.to_dict())
    run.write_data(experiment.facts)
    fresh = experiment.programs.initialise(jax.random.key(0))
    fresh.ema["params"]["head"]["bias"] += jnp.nan
    with Checkpoints(run.checkpoints, {}) as checkpoints:
        checkpoints.save(5, fresh, {})
        checkpoints.wait()
    capsys.readouterr()
    command = ["evaluate", f"--workdir={run.path}", "--json"]
    assert main(command) == 3
    told = capsys.readouterr()
    result = {"loss": None, "accuracy": None, "examples": 360, "weights": "averaged"}
    assert strict(told.out) == result | {"split": "test", "step": 5}
    assert told.err == f"error: {run.path}, step 5, on test: the loss or a logit is not finite\n"
    assert main(command[:2]) == 3
    assert "accuracy" not in capsys.readouterr().out
    for words in (["analyze", "lesion"], ["export", f"--out={tmp_path / 'net.safetensors'}"]):
        assert main([*words, f"--workdir={run.path}"]) == 3
        assert "the weights of step 5 are not finite" in capsys.readouterr().err
    assert not (run.path / "analysis").exists()
    assert not (tmp_path / "net.safetensors").exists()
