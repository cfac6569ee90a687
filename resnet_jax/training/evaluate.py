"""Metrics of a whole split: every example once."""

import contextlib
from typing import Any

from ml_collections import ConfigDict

from resnet_jax.config import flatten
from resnet_jax.errors import warn
from resnet_jax.training.experiment import make_experiment
from resnet_jax.training.hosts import together
from resnet_jax.training.programs import Programs
from resnet_jax.training.restore import open_checkpoint
from resnet_jax.training.run_directory import PROTOCOL, RunDirectory


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
        `loss`, `accuracy`, `examples`, `split`, `step`, and the fields of the config's `evaluate` section
        (`run_directory.PROTOCOL`) in which it differs from the run's.

    Raises:
        UserError: nothing was saved, no such checkpoint, or a damaged one.
    """
    with contextlib.ExitStack() as stack:
        with together():
            checkpoints, step = stack.enter_context(open_checkpoint(run, which))
            facts = run.read_data()
            experiment = make_experiment(config, split, facts=facts, evaluates=True)
        state, _ = checkpoints.restore(step, experiment.state_shapes())
    parallel = experiment.parallel
    placed = parallel.place([state]), parallel.stack([experiment.numbers])
    (result,) = Programs(experiment).evaluate(*placed)
    for damage in experiment.inputs.damaged.take_new():
        warn(f"unreadable image: {damage}")
    own, now = flatten(run.load_config({}).to_dict()), flatten(config.to_dict())
    protocol = {name: now[name] for name in PROTOCOL if now[name] != own[name]}
    return result | {"split": experiment.facts["eval_split"], "step": step} | protocol
