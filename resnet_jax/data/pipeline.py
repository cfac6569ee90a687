"""The pipeline: (seed, step) → batch, and evaluation batches with a mask.

Two placements with one interface. `DeviceData` keeps a decoded split on the device: a batch is
gathered inside the compiled step and no host works. `StreamData` decodes on the host through Grain.
In both, position p = step * batch_size + i of the endless stream of training examples belongs to
epoch p // examples, each epoch in an order of its own, so an epoch is every example exactly once
and a batch may reach over its end.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from resnet_jax import random_streams
from resnet_jax.data.images import centre_crop, random_resized_crop
from resnet_jax.data.preprocessing import Batch, Preprocessing
from resnet_jax.data.sources import ArrayExamples, Examples


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
    """

    def __init__(
        self, examples: ArrayExamples, *, batch_size: int, steps_per_call: int = 1
    ) -> None:
        self.examples, self.batch_size = examples, batch_size
        self.num_examples = len(examples)
        # A call that starts anywhere in the first epoch of a window must end inside the window.
        self.epochs_per_window = 1 + -(-steps_per_call * batch_size // self.num_examples)

    def window_number(self, step: int) -> int:
        """The epoch in which `step` begins; the order changes with it."""
        return step * self.batch_size // self.num_examples

    def window(self, step: int, seed: int) -> dict[str, Any]:
        """The order of examples of a run from the epoch of `step` on, for `batch`.

        Args:
            step: of the run.
            seed: of the run.

        Returns:
            `indices`: int32[epochs_per_window * examples]; `step`: the step it was made at;
            `offset`: where in `indices` that step begins.
        """
        epoch = self.window_number(step)
        epochs = epoch + jnp.arange(self.epochs_per_window)
        key = random_streams.run_key(seed)
        keys = jax.vmap(partial(random_streams.stream_key, key, random_streams.ORDER))(epochs)
        indices = _orders(keys, self.num_examples)
        offset = step * self.batch_size - epoch * self.num_examples
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
            window: what `window()` returned for this step or an earlier one of its epoch.
            key: of the run.
            step: int32 scalar.
            positions: int32[share], places in the whole batch.
            preprocessing: normalisation and augmentation.
        """
        start = window["offset"] + (step - window["step"]) * self.batch_size
        indices = window["indices"][start + positions]
        return preprocessing.train_batch(
            arrays["image"][indices],
            arrays["label"][indices],
            key,
            step,
            self.batch_size,
            positions,
        )


class StreamData:
    """A training split decoded on the host by threads, through Grain.

    Args:
        examples: random access to the split.
        batch_size: of the whole batch.
        image_size: height and width in pixels; None leaves images as they are.
        crop_fraction: share of the shorter side kept, where crops are not random.
        random_crop: random resized crops.
        num_threads: threads that decode.
    """

    def __init__(
        self,
        examples: Examples,
        *,
        batch_size: int,
        image_size: int | None,
        crop_fraction: float = 1.0,
        random_crop: bool = False,
        num_threads: int = 4,
    ) -> None:
        self.examples, self.num_examples = examples, len(examples)
        self.batch_size, self.num_threads = batch_size, num_threads

        def load(index_and_label, rng: np.random.Generator):
            image, label = index_and_label
            if random_crop and image_size is not None:
                image = random_resized_crop(image, image_size, rng)
            elif image_size is not None:
                image = centre_crop(image, image_size, crop_fraction)
            return {"image": image, "label": np.int32(label)}

        self._load = load

    def _batches(self, seed: int) -> Any:
        import grain

        dataset = grain.MapDataset.source(self.examples).seed(seed).shuffle().repeat()
        return dataset.random_map(self._load).batch(self.batch_size)

    def host_batch(self, step: int, seed: int) -> dict[str, np.ndarray]:
        """The batch of a step: `image` uint8[batch, …] and `label` int32[batch], on the host."""
        return self._batches(seed)[step]

    def host_batches(self, step: int, seed: int) -> Iterator[dict[str, np.ndarray]]:
        """The batches of `step`, `step + 1`, …, decoded ahead by threads."""
        import grain

        options = grain.ReadOptions(num_threads=self.num_threads, prefetch_buffer_size=4)
        return iter(self._batches(seed)[step:].to_iter_dataset(options))


def eval_mask(index: jax.Array, positions: jax.Array, batch_size: int, num_examples: int):
    """Which examples of evaluation batch `index` stand at `positions`, and which of them exist.

    Returns:
        indices: int32[share], within the split; mask: bool[share], False for padding.
    """
    indices = index * batch_size + positions
    return jnp.minimum(indices, num_examples - 1), indices < num_examples


def host_eval_batches(
    examples: Examples,
    batch_size: int,
    image_size: int | None,
    crop_fraction: float,
    num_threads: int,
) -> Iterator[dict[str, np.ndarray]]:
    """All examples of a split once, in order, in batches of one size.

    Yields:
        `image` uint8[batch_size, …], `label` int32[batch_size] and `mask` bool[batch_size], which is
        False for the padding of the last batch.
    """
    import grain

    def load(example):
        image, label = example
        if image_size is not None:
            image = centre_crop(image, image_size, crop_fraction)
        return {"image": image, "label": np.int32(label), "mask": np.True_}

    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=2 * batch_size)
    dataset = grain.MapDataset.source(examples).map(load).to_iter_dataset(options)
    for batch in dataset.batch(batch_size, drop_remainder=False):
        yield {name: _pad_first_axis(array, batch_size) for name, array in batch.items()}


def _pad_first_axis(array: np.ndarray, length: int) -> np.ndarray:
    return np.pad(array, [(0, length - len(array))] + [(0, 0)] * (array.ndim - 1))
