"""The weights of a run's checkpoint."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from resnet_jax.config import Config
from resnet_jax.errors import NotFiniteError, UserError
from resnet_jax.training.checkpoint import Checkpoints, NoCheckpointError
from resnet_jax.training.hosts import exchange, together
from resnet_jax.training.model import model_builder
from resnet_jax.training.optimizer import make_optimizer
from resnet_jax.training.preparation import evaluated_image, stored
from resnet_jax.training.retention import most_accurate
from resnet_jax.training.run_directory import RunDirectory, evaluations
from resnet_jax.training.state import Arrays, Network, TrainState, make_network, state_shapes

ALLOWED = "latest, best, or a number"


def chosen_step(run: RunDirectory, which: str, allowed: str = ALLOWED) -> int:
    """The step of the checkpoint that is meant.

    Args:
        run: its directory.
        which: `latest`, `best` (by accuracy), or the number of a step.
        allowed: what to say where `which` is something else.

    Raises:
        UserError: nothing was saved, or `which` is none of these.
    """
    if which not in ("latest", "best") and not which.isdecimal():
        raise UserError("--step", which, f"allowed: {allowed}")
    steps = sorted(run.checkpoint_steps())
    if which.isdecimal() and steps:
        return int(which)
    if which == "best":
        steps = most_accurate(steps, 1, evaluations(run.read_metrics()))
    if not steps:
        problem = f"holds no checkpoint for --step={which}"
        raise UserError("--workdir", str(run.path), problem, "run `train` until it has saved one")
    return steps[-1]


def restored(
    run: RunDirectory, which: str, like: TrainState, allowed: str = ALLOWED
) -> tuple[TrainState, int]:
    """The state of a checkpoint, also of a run that is trained meanwhile, and its step.

    Args:
        run, which, allowed: see `chosen_step`; all processes take the step of the first one.
        like: see `Checkpoints.restore`.

    Raises:
        UserError: see `chosen_step` and `Checkpoints.restore`.
    """
    tried = None
    while True:
        with together():
            step = chosen_step(run, which, allowed)
        step = int(exchange(str(step))[0])
        with Checkpoints(run.checkpoints, {}, read_only=True) as checkpoints:
            try:
                return checkpoints.restore(step, like)[0], step
            except NoCheckpointError:
                # Of a run that is trained, a newer or better one took its place.
                if which.isdecimal() or step == tried:
                    raise
                tried = step


def evaluated_weights(
    run: RunDirectory,
    config: Config,
    which: str = "latest",
    allowed: str = ALLOWED,
) -> tuple[Network, Arrays, int]:
    """The weights that evaluation uses; the data set need not be there.

    Args:
        run: its directory.
        config: of the run (`RunDirectory.load_config`); it may compute in another type.
        which, allowed: see `chosen_step`.

    Returns:
        The network, its `{"params", "batch_stats"}`, and the step.

    Raises:
        UserError: see `restored`.
        NotFiniteError: an earlier version saved weights that are not finite.
    """
    network = network_of(config, run.read_data())
    # The state of an optimiser has the same shapes whatever its rate.
    optimizer = make_optimizer(config, optax.constant_schedule(0.0))
    shapes = state_shapes(network, optimizer, config.train.ema_decay is not None)
    state, step = restored(run, which, shapes, allowed)
    weights = state.evaluated()
    if not all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(weights)):
        raise NotFiniteError(f"{run.path}: the weights of step {step} are not finite")
    return network, weights, step


def network_of(config: Config, facts: Mapping[str, Any]) -> Network:
    """The network of a config for data with these facts (`RunDirectory.read_data`)."""
    channels = facts["image_shape"][-1]
    image = evaluated_image(config, stored(facts).interpolation)
    return make_network(model_builder(config, len(facts["class_names"]), channels), image.views)
