"""Weights that a run starts from instead of fresh ones."""

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from resnet_jax.errors import UserError
from resnet_jax.interop import LoadReport, WeightsError, fit_weights, write_arrays
from resnet_jax.training.state import Network, TrainState, pure_arrays


@dataclass(frozen=True)
class Pretrained:
    """Weights read from a file.

    Attributes:
        values: by the names of the network in the unrolled layout.
        report: which of the file's weights they are, and how images were prepared for them.
    """

    values: dict[str, np.ndarray]
    report: LoadReport

    def into(self, fresh: TrainState, network: Network) -> TrainState:
        """A fresh state with the arrays of the file in place of its own."""
        model = nnx.merge(network.train_graph, fresh.params, fresh.batch_stats)
        write_arrays(model, self.values)
        arrays = pure_arrays(model)
        ema = jax.tree.map(jnp.copy, arrays) if fresh.ema else {}
        return dataclasses.replace(fresh, ema=ema, **arrays)


def read_pretrained(fields: ConfigDict, network: Network) -> Pretrained:
    """Read the weights that `model.init_from` names, and check that they fit the network.

    Args:
        fields: section `model` of the config.
        network: of the run.

    Raises:
        UserError: no such file or entry, or one that does not fit; the message says in what.
    """
    model = nnx.eval_shape(lambda: network.build(nnx.Rngs(0)))
    try:
        values, report = fit_weights(model, fields.init_from, entry=fields.init_entry)
    except (WeightsError, OSError, ImportError) as error:
        problem = "; ".join(line.strip(" :") for line in str(error).splitlines())
        raise UserError("model.init_from", fields.init_from, problem) from error
    return Pretrained(values, report)
