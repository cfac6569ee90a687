"""From decoded splits to batches, where both splits live on the devices.

A batch is gathered inside the compiled step and no host works; `streaming.py` decodes on the host.
In both, position p = step * batch_size + i of the endless stream of training examples takes place
p // repeats of the order, and place q belongs to pass q // examples over the data, each in an order of
its own. So a pass is every example exactly once, and a batch may reach over its end.
"""

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property, partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from resnet_jax import random_streams
from resnet_jax.data.damage import DamagedImages
from resnet_jax.data.devices import Devices
from resnet_jax.data.examples import ArrayExamples
from resnet_jax.data.preprocessing import Batch, Preprocessing


@partial(jax.jit, static_argnums=1)
def _orders(keys: jax.Array, num_examples: int) -> jax.Array:
    orders = jax.vmap(lambda key: jax.random.permutation(key, num_examples))(keys)
    return orders.reshape(-1).astype(jnp.int32)


@dataclass(eq=False)
class OnDevice:
    """Batches of splits that live on the devices as uint8.

    A compiled call takes two placed arguments: one per run, and one that all runs share.

    Attributes:
        train_examples, eval_examples: decoded splits.
        preprocessing: normalisation and augmentation.
        devices: where arrays go.
        batch_size: of the whole training batch.
        eval_batch_size: a multiple of the devices.
        steps_per_call: steps that one window of the order must reach.
        repeats: positions in a row that an example of the order takes.
        damaged: corrupt images, which are left out.
        measured: mean and standard deviation of each channel of the training images; None: they were
            not needed.
        placement: of the arguments of the run.
    """

    train_examples: ArrayExamples
    eval_examples: ArrayExamples
    preprocessing: Preprocessing
    devices: Devices
    _: KW_ONLY
    batch_size: int
    eval_batch_size: int
    steps_per_call: int = 1
    repeats: int = 1
    damaged: DamagedImages = field(default_factory=lambda: DamagedImages(0))
    measured: Any = None
    placement: ClassVar[str] = "replicated"
    _placed_window: tuple[Any, Any] = field(default=(None, None), init=False)

    @property
    def num_examples(self) -> int:
        """Training examples of an epoch."""
        return len(self.train_examples)

    @property
    def _pass(self) -> int:
        return self.num_examples * self.repeats

    @cached_property
    def train_arrays(self) -> Any:
        """The training split, on every device."""
        return self.devices.replicate(self.train_examples.arrays())

    @cached_property
    def _eval_arrays(self) -> Any:
        return self.devices.replicate(self.eval_examples.arrays())

    def window_number(self, step: int) -> int:
        """The pass over the data in which `step` begins; the order changes with it."""
        return step * self.batch_size // self._pass

    def window(self, step: int, seed: int) -> dict[str, Any]:
        """The order of examples of a run from the pass of `step` on.

        Args:
            step: of the run.
            seed: of the run.

        Returns:
            `indices`: int32[passes * examples]; `step`: the step it was made at;
            `offset`: positions from the beginning of `indices` to that step.
        """
        epoch = self.window_number(step)
        # A call that starts anywhere in the first pass of a window must end inside the window.
        count = 1 + -(-self.steps_per_call * self.batch_size // self._pass)
        epochs = epoch + jnp.arange(count)
        key = random_streams.run_key(seed)
        keys = jax.vmap(partial(random_streams.stream_key, key, random_streams.ORDER))(epochs)
        indices = _orders(keys, self.num_examples)
        offset = step * self.batch_size - epoch * self._pass
        return {"indices": indices, "step": np.int32(step), "offset": np.int32(offset)}

    def train_arguments(self, step: int, seed: int) -> tuple[Any, Any]:
        """Arguments of the training call that begins at `step`, of the run with this seed."""
        wanted = self.window_number(step), seed
        if wanted != self._placed_window[0]:
            self._placed_window = wanted, self.devices.replicate(self.window(step, seed))
        return self._placed_window[1], self.train_arrays

    def train_batch(self, arguments: tuple[Any, Any], step: jax.Array, key: jax.Array) -> Batch:
        """(A device's share of) the batch of a step; pure, and traced into the compiled step.

        Args:
            arguments: what `train_arguments` returned for this step or an earlier one of its pass.
            step: int32 scalar.
            key: of the run.
        """
        window, arrays = arguments
        positions = self.devices.positions(self.batch_size)
        start = window["offset"] + (step - window["step"]) * self.batch_size
        indices = window["indices"][(start + positions) // self.repeats]
        images, labels = arrays["image"][indices], arrays["label"][indices]
        return self.preprocessing.train_batch(images, labels, key, step, self.batch_size, positions)

    def eval_batches(self) -> Iterator[tuple[Any, Any]]:
        """Arguments of the evaluation calls."""
        for index in range(-(-len(self.eval_examples) // self.eval_batch_size)):
            yield (), (self._eval_arrays, self.devices.replicate(np.int32(index)))

    def eval_batch(self, arguments: tuple[tuple[()], tuple[Batch, jax.Array]]) -> Batch:
        """(A device's share of) an evaluation batch, traced."""
        arrays, index = arguments[1]
        positions = self.devices.positions(self.eval_batch_size)
        indices, mask = eval_mask(index, positions, self.eval_batch_size, len(self.eval_examples))
        image = self.preprocessing.normalise(arrays["image"][indices])
        return {"image": image, "label": arrays["label"][indices], "mask": mask}

    def take_wait(self) -> dict[str, float]:
        """Nothing: a call never waits."""
        return {}

    def close(self) -> None:
        """There is nothing to stop."""


def eval_mask(index: jax.Array, positions: jax.Array, batch_size: int, num_examples: int):
    """Which examples of evaluation batch `index` stand at `positions`, and which of them exist.

    Returns:
        indices: int32[share], within the split; mask: bool[share], False for padding.
    """
    indices = index * batch_size + positions
    return jnp.minimum(indices, num_examples - 1), indices < num_examples
