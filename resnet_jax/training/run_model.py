"""The network of a run as a module, at any of its steps."""

from collections.abc import Mapping
from typing import Any

import optax
from flax import nnx

from resnet_jax import models
from resnet_jax.config import Config
from resnet_jax.training.pretrained import read_pretrained
from resnet_jax.training.restore import evaluated_weights, network_of
from resnet_jax.training.run_directory import RunDirectory
from resnet_jax.training.state import initial_state


def restore_model(
    run: RunDirectory, config: Config, which: str = "latest"
) -> tuple[models.ResNet, int]:
    """The network that evaluation uses, in eval mode, and its step; the data set need not be there.

    Args:
        run: its directory.
        config: of the run (`RunDirectory.load_config`); it may compute in another type.
        which: see `restore.chosen_step`, or `init`: the network as the run began.

    Raises:
        UserError: as `restore.evaluated_weights`.
    """
    if which == "init":
        run.refuse_unconfirmed("model.init_from")
        return model_at_start(config, run.read_data()), 0
    allowed = "latest, best, init, or a number"
    network, weights, step = evaluated_weights(run, config, which, allowed)
    return nnx.merge(network.eval_graph, weights["params"], weights["batch_stats"]), step


def model_at_start(config: Config, facts: Mapping[str, Any]) -> models.ResNet:
    """The network at step 0 of a run of the config, in eval mode.

    Args:
        config: of the run.
        facts: about its data (`RunDirectory.read_data`).

    Raises:
        UserError: `model.init_from` cannot be read or does not fit.
    """
    network = network_of(config, facts)
    state = initial_state(network, optax.identity(), config.seed, with_ema=False)
    if config.model.init_from is not None:
        pretrained = read_pretrained(config.model, network, facts["class_names"])
        state = pretrained.into(state, network)
    return nnx.merge(network.eval_graph, state.params, state.batch_stats)
