"""Inputs of the compiled steps: how the data's pipeline meets the devices.

`DeviceInputs` and `StreamInputs` have one interface. `train(step)` and `evaluation()` give placed
arguments for a compiled function; `train_batch` and `eval_batch` are traced into it and turn these
arguments into a batch.
"""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from resnet_jax.data.pipeline import (
    DeviceData,
    Preprocessing,
    StreamData,
    eval_mask,
    host_eval_batches,
)
from resnet_jax.data.sources import ArrayExamples, Examples
from resnet_jax.training.parallel import Parallel
from resnet_jax.training.steps import Batch


class DeviceInputs:
    """Both splits live on the device; a call gets the arrays and the order of the epoch.

    Args:
        data: training split.
        eval_examples: evaluation split.
        preprocessing: traced into the steps.
        parallel: where arrays go.
        eval_batch_size: a multiple of the devices.
    """

    placement = "replicated"

    def __init__(
        self, data: DeviceData, eval_examples: ArrayExamples, preprocessing: Preprocessing,
        parallel: Parallel, eval_batch_size: int,
    ) -> None:
        self.data, self.preprocessing, self.parallel = data, preprocessing, parallel
        self.eval_examples, self.eval_batch_size = eval_examples, eval_batch_size
        self._arrays: dict[str, Any] = {}
        self._window: tuple[int, Any] = (-1, None)

    def _placed(self, split: str, examples: ArrayExamples) -> Any:
        if split not in self._arrays:
            arrays = {"image": examples.images, "label": examples.labels}
            self._arrays[split] = self.parallel.replicate(arrays)
        return self._arrays[split]

    def train(self, step: int) -> tuple[Any, ...]:
        """Arguments of the training call that begins at `step`."""
        number = self.data.window_number(step)
        if number != self._window[0]:
            self._window = number, self.parallel.replicate(self.data.window(step))
        return self._placed("train", self.data.examples), self._window[1]

    def train_batch(self, step: jax.Array, arrays: Batch, window: Batch) -> Batch:
        """The batch of `step`, traced."""
        positions = self.parallel.positions(self.data.batch_size)
        return self.data.batch(arrays, window, step, positions, self.preprocessing)

    def evaluation(self) -> Iterator[tuple[Any, ...]]:
        """Arguments of the evaluation calls."""
        arrays = self._placed("eval", self.eval_examples)
        for index in range(-(-len(self.eval_examples) // self.eval_batch_size)):
            yield arrays, self.parallel.replicate(np.int32(index))

    def eval_batch(self, arrays: Batch, index: jax.Array) -> Batch:
        """The evaluation batch of `index`, traced."""
        positions = self.parallel.positions(self.eval_batch_size)
        indices, mask = eval_mask(
            index, positions, self.eval_batch_size, len(self.eval_examples)
        )
        image = self.preprocessing.normalise(arrays["image"][indices])
        return {"image": image, "label": arrays["label"][indices], "mask": mask}


class StreamInputs:
    """Batches come from the host; a call gets one batch, split over the devices.

    Args:
        data: training stream.
        eval_examples: evaluation split.
        preprocessing: traced into the steps.
        parallel: where batches go.
        eval_batch_size: a multiple of the devices.
        seed: of the run.
        image_size, crop_fraction, num_threads: how evaluation images are read.
    """

    placement = "split"

    def __init__(
        self, data: StreamData, eval_examples: Examples, preprocessing: Preprocessing,
        parallel: Parallel, eval_batch_size: int, *, seed: int, image_size: int | None,
        crop_fraction: float, num_threads: int,
    ) -> None:
        self.data, self.preprocessing, self.parallel, self.seed = data, preprocessing, parallel, seed
        self.eval_examples, self.eval_batch_size = eval_examples, eval_batch_size
        self._reading = image_size, crop_fraction, num_threads
        self._next_step = -1
        self._batches: Iterator[dict[str, np.ndarray]] = iter(())

    def train(self, step: int) -> tuple[Any, ...]:
        """Arguments of the training call at `step`; the next batches are decoded meanwhile."""
        if step != self._next_step:
            self._batches = self.data.host_batches(step)
        self._next_step = step + 1
        return (self.parallel.split(next(self._batches)),)

    def train_batch(self, step: jax.Array, batch: Batch) -> Batch:
        """The batch of `step`, traced."""
        positions = self.parallel.positions(self.data.batch_size)
        return self.preprocessing.train_batch(
            batch["image"], batch["label"], self.seed, step, self.data.batch_size, positions
        )

    def evaluation(self) -> Iterator[tuple[Any, ...]]:
        """Arguments of the evaluation calls."""
        for batch in host_eval_batches(self.eval_examples, self.eval_batch_size, *self._reading):
            yield (self.parallel.split(batch),)

    def eval_batch(self, batch: Batch) -> Batch:
        """The evaluation batch, traced."""
        return {**batch, "image": self.preprocessing.normalise(batch["image"])}


Inputs = DeviceInputs | StreamInputs
