"""Weights that a run starts from instead of fresh ones."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from resnet_jax.config import ModelConfig
from resnet_jax.errors import UserError, told_of
from resnet_jax.interop import LoadReport, WeightsError, fit_weights, torch_state, write_arrays
from resnet_jax.training.data_changes import class_changes
from resnet_jax.training.preparation import preprocessing_of
from resnet_jax.training.restore import evaluated_weights
from resnet_jax.training.run_directory import RunDirectory
from resnet_jax.training.state import Network, TrainState, pure_arrays


@dataclass(frozen=True)
class Pretrained:
    """Weights read from a file or a run.

    Attributes:
        values: by the names of the network in the unrolled layout.
        report: which of the file's weights they are, and how images were prepared for them.
        other_classes: in what the classes of the weights differ from those of the data, so that the
            classifier stays fresh; empty where they are the same or unknown.
    """

    values: dict[str, np.ndarray]
    report: LoadReport
    other_classes: str = ""

    def into(self, fresh: TrainState, network: Network) -> TrainState:
        """A fresh state with the arrays of the file in place of its own."""
        model = nnx.merge(network.train_graph, fresh.params, fresh.batch_stats)
        write_arrays(model, self.values)
        arrays = pure_arrays(model)
        ema = jax.tree.map(jnp.copy, arrays) if fresh.ema else {}
        return dataclasses.replace(fresh, ema=ema, **arrays)


def read_pretrained(
    fields: ModelConfig, network: Network, class_names: Sequence[str]
) -> Pretrained:
    """Read the weights that `model.init_from` names, and check that they fit the network.

    Args:
        fields: section `model` of the config. `init_from` is a file, or the directory of a run, of
            which `init_entry` then names the checkpoint: `latest`, `best` or a number.
        network: of the run.
        class_names: of the data. Where the weights are known to be of other classes, their
            classifier is left out.

    Raises:
        UserError: no such file, entry or checkpoint, or one that does not fit; the message says in
            what.
    """
    model = nnx.eval_shape(lambda: network.build(nnx.Rngs(0)))
    path = fields.init_from
    assert path is not None
    source: str | dict[str, np.ndarray] = path
    entry, known = fields.init_entry, dict[str, Any]()
    if Path(path).is_dir():
        source, known = _state_of_run(path, entry)
        entry = None
    changes = class_changes(known.pop("class_names", class_names), class_names)
    try:
        values, report = fit_weights(model, source, entry=entry)
    except (WeightsError, OSError, ImportError) as error:
        problem = "; ".join(line.strip(" :") for line in str(error).splitlines())
        raise UserError("model.init_from", path, problem) from error
    if changes and report.other_classes is None:
        values = {name: v for name, v in values.items() if not name.startswith("head.")}
    return Pretrained(values, dataclasses.replace(report, **known), changes)


def _state_of_run(
    directory: str, which: str | None
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The state dict of a run's checkpoint, and what is known about its weights."""
    run = RunDirectory(directory, writes=False)
    with told_of("model.init_from", "--workdir"), told_of("model.init_entry", "--step"):
        config, facts = run.load_config({}), run.read_data()
        network, weights, step = evaluated_weights(run, config, which or "latest")
    model = nnx.merge(network.eval_graph, weights["params"], weights["batch_stats"])
    known = {
        "entry": f"step {step}",
        "preprocessing": preprocessing_of(facts),
        "class_names": facts["class_names"],
    }
    return torch_state(model), known
