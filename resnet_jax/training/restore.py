"""The weights of a run's checkpoint."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from resnet_jax.errors import NotFiniteError, UserError
from resnet_jax.training.checkpoint import Checkpoints
from resnet_jax.training.model import model_builder
from resnet_jax.training.optimizer import make_optimizer
from resnet_jax.training.preparation import evaluated_image, stored
from resnet_jax.training.run_directory import RunDirectory, evaluations
from resnet_jax.training.state import Arrays, Network, make_network, state_shapes


@contextmanager
def open_checkpoint(
    run: RunDirectory, which: str, allowed: str = "latest, best, or a number"
) -> Iterator[tuple[Checkpoints, int]]:
    """The checkpoints of a run, for reading, and the step of the one that is meant.

    Args:
        run: its directory.
        which: `latest`, `best` (by accuracy), or the number of a step.
        allowed: what to say where `which` is something else.

    Raises:
        UserError: nothing was saved, or `which` is none of these.
    """
    if not run.checkpoints.is_dir():
        raise UserError("--workdir", str(run.path), "holds no checkpoint yet", "run `train` first")
    results = evaluations(run.read_metrics()) if which == "best" else {}
    with Checkpoints(run.checkpoints, results, read_only=True) as checkpoints:
        if which not in ("latest", "best") and not which.isdecimal():
            raise UserError("--step", which, f"allowed: {allowed}")
        named = {"latest": checkpoints.latest, "best": checkpoints.best}
        step = named[which]() if which in named else int(which)
        if step is None:
            raise UserError(
                "--workdir",
                str(run.path),
                f"holds no checkpoint for --step={which}",
                "run `train` until it has saved one",
            )
        yield checkpoints, step


def evaluated_weights(
    run: RunDirectory,
    config: ConfigDict,
    which: str = "latest",
    allowed: str = "latest, best, or a number",
) -> tuple[Network, Arrays, int]:
    """The weights that evaluation uses; the data set need not be there.

    Args:
        run: its directory.
        config: of the run (`RunDirectory.load_config`); it may compute in another type.
        which, allowed: as of `open_checkpoint`.

    Returns:
        The network, its `{"params", "batch_stats"}`, and the step.

    Raises:
        UserError: as `open_checkpoint`, or the checkpoint is corrupt.
        NotFiniteError: an earlier version saved weights that are not finite.
    """
    network = network_of(config, run.read_data())
    # The state of an optimiser has the same shapes whatever its rate.
    optimizer = make_optimizer(config, optax.constant_schedule(0.0))
    shapes = state_shapes(network, optimizer, config.train.ema_decay is not None)
    with open_checkpoint(run, which, allowed) as (checkpoints, step):
        state, _ = checkpoints.restore(step, shapes)
    weights = state.evaluated()
    if not all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(weights)):
        raise NotFiniteError(f"{run.path}: the weights of step {step} are not finite")
    return network, weights, step


def network_of(config: ConfigDict, facts: Mapping[str, Any]) -> Network:
    """The network of a config for data with these facts (`RunDirectory.read_data`)."""
    channels = facts["image_shape"][-1]
    image = evaluated_image(config, stored(facts).interpolation)
    return make_network(model_builder(config, len(facts["class_names"]), channels), image.views)
