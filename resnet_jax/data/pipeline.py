"""The pipeline: (seed, step) → batch, where the examples live on the device.

`DeviceData` keeps a decoded split on the device: a batch is gathered inside the compiled step and no
host works. `StreamData` (`stream.py`) decodes on the host. In both, position p = step * batch_size + i
of the endless stream of training examples takes place p // repeats of the order, and place q belongs
to pass q // examples over the data, each in an order of its own. So a pass is every example exactly
once, and a batch may reach over its end.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from resnet_jax import random_streams
from resnet_jax.data.examples import ArrayExamples
from resnet_jax.data.preprocessing import Batch, Preprocessing


@partial(jax.jit, static_argnums=1)
def _orders(keys: jax.Array, num_examples: int) -> jax.Array:
    orders = jax.vmap(lambda key: jax.random.permutation(key, num_examples))(keys)
    return orders.reshape(-1).astype(jnp.int32)


class DeviceData:
    """A training split that lives on the device as uint8.

    Args:
        examples: the decoded split.
        batch_size: of the whole batch.
        steps_per_call: steps that one window of the order must reach.
        repeats: positions in a row that an example of the order takes.
    """

    def __init__(
        self,
        examples: ArrayExamples,
        *,
        batch_size: int,
        steps_per_call: int = 1,
        repeats: int = 1,
    ) -> None:
        self.examples, self.batch_size, self.repeats = examples, batch_size, repeats
        self.num_examples = len(examples)
        self._pass = self.num_examples * repeats
        # A call that starts anywhere in the first pass of a window must end inside the window.
        self.epochs_per_window = 1 + -(-steps_per_call * batch_size // self._pass)

    def window_number(self, step: int) -> int:
        """The pass over the data in which `step` begins; the order changes with it."""
        return step * self.batch_size // self._pass

    def window(self, step: int, seed: int) -> dict[str, Any]:
        """The order of examples of a run from the pass of `step` on, for `batch`.

        Args:
            step: of the run.
            seed: of the run.

        Returns:
            `indices`: int32[epochs_per_window * examples]; `step`: the step it was made at;
            `offset`: positions from the beginning of `indices` to that step.
        """
        epoch = self.window_number(step)
        epochs = epoch + jnp.arange(self.epochs_per_window)
        key = random_streams.run_key(seed)
        keys = jax.vmap(partial(random_streams.stream_key, key, random_streams.ORDER))(epochs)
        indices = _orders(keys, self.num_examples)
        offset = step * self.batch_size - epoch * self._pass
        return {"indices": indices, "step": np.int32(step), "offset": np.int32(offset)}

    def batch(
        self,
        arrays: Batch,
        window: Batch,
        key: jax.Array,
        step: jax.Array,
        positions: jax.Array,
        preprocessing: Preprocessing,
    ) -> Batch:
        """(A device's share of) the batch of a step; pure, and traced into the compiled step.

        Args:
            arrays: `ArrayExamples.arrays()` of the split, on the device.
            window: what `window()` returned for this step or an earlier one of its pass.
            key: of the run.
            step: int32 scalar.
            positions: int32[share], places in the whole batch.
            preprocessing: normalisation and augmentation.
        """
        start = window["offset"] + (step - window["step"]) * self.batch_size
        indices = window["indices"][(start + positions) // self.repeats]
        return preprocessing.train_batch(
            arrays["image"][indices],
            arrays["label"][indices],
            key,
            step,
            self.batch_size,
            positions,
        )


def eval_mask(index: jax.Array, positions: jax.Array, batch_size: int, num_examples: int):
    """Which examples of evaluation batch `index` stand at `positions`, and which of them exist.

    Returns:
        indices: int32[share], within the split; mask: bool[share], False for padding.
    """
    indices = index * batch_size + positions
    return jnp.minimum(indices, num_examples - 1), indices < num_examples
