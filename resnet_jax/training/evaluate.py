"""Metrics of a whole split: every example once."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from resnet_jax.training.experiment import make_experiment
from resnet_jax.training.inputs import Inputs
from resnet_jax.training.parallel import Parallel
from resnet_jax.training.restore import open_checkpoint
from resnet_jax.training.run_directory import RunDirectory
from resnet_jax.training.state import Network, TrainState
from resnet_jax.training.steps import eval_step

CALLS_AHEAD = 3


def compile_evaluation(
    network: Network, inputs: Inputs, parallel: Parallel
) -> Callable[[TrainState], dict[str, Any]]:
    """A function that evaluates a placed state on the evaluation split.

    Returns:
        state → `loss` (mean cross-entropy, nats), `accuracy` (0 to 1), `examples`.
    """

    def one_batch(weights, arguments):
        return eval_step(weights, inputs.eval_batch(*arguments), network, parallel.axis_name)

    compiled = parallel.compile(one_batch, inputs.placement)

    def evaluate(state: TrainState) -> dict[str, Any]:
        weights = state.evaluated()
        results: list[Any] = []
        for arguments in inputs.evaluation():
            results.append(compiled(weights, arguments))
            # A few calls ahead keep the device busy; more would hold their batches in its memory.
            jax.block_until_ready(results[-CALLS_AHEAD:][0])
        total = jax.tree.map(lambda *m: np.sum(m, dtype=np.float64), *parallel.collect(results))
        count = int(total["count"])
        if count != len(inputs.eval_examples):
            raise AssertionError(f"evaluated {count} of {len(inputs.eval_examples)} examples")
        return means(total) | {"examples": count}

    return evaluate


def evaluate_run(
    run: RunDirectory, config: ConfigDict, which: str = "latest", split: str | None = None
) -> dict[str, Any]:
    """Evaluate a checkpoint of a run.

    Args:
        run: its directory.
        config: of the run (`RunDirectory.load_config`).
        which: `latest`, `best` (by accuracy), or the number of a step.
        split: None: the split that training evaluated.

    Returns:
        `loss`, `accuracy`, `examples`, `split`, `step`.

    Raises:
        UserError: nothing was saved, no such checkpoint, or a damaged one.
    """
    with open_checkpoint(run, which) as (checkpoints, step):
        experiment = make_experiment(config, split)
        state, _ = checkpoints.restore(step, experiment.state_shapes())
    parallel = experiment.parallel
    evaluate = compile_evaluation(experiment.network, experiment.inputs, parallel)
    result = evaluate(parallel.replicate(state))
    return result | {"split": experiment.facts["eval_split"], "step": step}


def means(totals: dict[str, Any]) -> dict[str, float]:
    """`loss` and `accuracy` of summed metrics."""
    count = float(totals["count"])
    return {
        "loss": float(totals["loss"]) / count,
        "accuracy": float(totals["correct"]) / count,
    }
