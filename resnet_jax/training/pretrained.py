"""Weights that a run starts from instead of fresh ones."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from resnet_jax.errors import UserError
from resnet_jax.interop import WeightsError, load_weights
from resnet_jax.training.state import Network, TrainState, pure_arrays


@dataclass(frozen=True)
class Pretrained:
    """Weights read from a file.

    Attributes:
        arrays: `{"params", "batch_stats"}` by the names of the network; a `jax.ShapeDtypeStruct` where
            the file has nothing.
        other_classes: of the file's classifier, where it has another number and is not used.
    """

    arrays: dict[str, Any]
    other_classes: int | None

    def into(self, fresh: TrainState) -> TrainState:
        """A fresh state with the arrays of the file in place of its own."""

        def choose(old: jax.Array, read: Any) -> jax.Array:
            return old if isinstance(read, jax.ShapeDtypeStruct) else jnp.asarray(read, old.dtype)

        own = {"params": fresh.params, "batch_stats": fresh.batch_stats}
        arrays = jax.tree.map(choose, own, self.arrays)
        ema = jax.tree.map(jnp.copy, arrays) if fresh.ema else {}
        return dataclasses.replace(fresh, ema=ema, **arrays)


def read_pretrained(source: str, network: Network) -> Pretrained:
    """Read the weights that `model.init_from` names, and check that they fit the network.

    Raises:
        UserError: no such file, or one that does not fit; the message lists all that is wrong.
    """
    model = nnx.eval_shape(lambda: network.build(nnx.Rngs(0)))
    try:
        report = load_weights(model, source)
    except (WeightsError, OSError, ImportError) as error:
        raise UserError("model.init_from", source, str(error)) from error
    return Pretrained(pure_arrays(model), report.other_classes)
