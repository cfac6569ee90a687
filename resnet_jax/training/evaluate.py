"""Metrics of a whole split: every example once."""

from typing import Any

from resnet_jax.config import Config, flatten
from resnet_jax.errors import warn
from resnet_jax.training.experiment import make_experiment
from resnet_jax.training.hosts import together
from resnet_jax.training.programs import Programs
from resnet_jax.training.restore import chosen_step, restored
from resnet_jax.training.run_directory import PROTOCOL, RunDirectory


def evaluate_run(
    run: RunDirectory, config: Config, which: str = "latest", split: str | None = None
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
    with together():
        # Before the data are read, which may take long.
        chosen_step(run, which)
        facts = run.read_data()
        run.refuse_unconfirmed("data.name", "data.data_dir")
        experiment = make_experiment(config, split, facts=facts, evaluates=True)
    state, step = restored(run, which, experiment.state_shapes())
    parallel = experiment.parallel
    placed = parallel.place([state]), parallel.stack([experiment.numbers])
    (result,) = Programs(experiment).evaluate(*placed)
    for damage in experiment.inputs.damaged.take_new():
        warn(f"unreadable image: {damage}")
    own, now = flatten(run.load_config({}).to_dict()), flatten(config.to_dict())
    protocol = {name: now[name] for name in PROTOCOL if now[name] != own[name]}
    return result | {"split": experiment.facts["eval_split"], "step": step} | protocol
