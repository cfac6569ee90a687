"""Inputs of the compiled steps where both splits live on the device; see `inputs.py`."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import jax
import numpy as np

from resnet_jax.data.damage import DamagedImages
from resnet_jax.data.examples import ArrayExamples
from resnet_jax.data.pipeline import DeviceData, eval_mask
from resnet_jax.data.preprocessing import Preprocessing
from resnet_jax.training.parallel import Parallel
from resnet_jax.training.steps import Batch


class DeviceInputs:
    """Both splits live on the device; a call gets the order of the epoch, and shares the arrays.

    Args:
        data: training split.
        eval_examples: evaluation split.
        preprocessing: traced into the steps.
        parallel: where arrays go.
        eval_batch_size: a multiple of the devices.
        damaged: images that were left out.
        measured: mean and standard deviation of each channel of the training images; None: they were
            not needed.
    """

    placement = "replicated"

    def __init__(
        self,
        data: DeviceData,
        eval_examples: ArrayExamples,
        preprocessing: Preprocessing,
        parallel: Parallel,
        eval_batch_size: int,
        damaged: DamagedImages,
        measured: Any = None,
    ) -> None:
        self.data, self.preprocessing, self.parallel = data, preprocessing, parallel
        self.eval_examples, self.eval_batch_size = eval_examples, eval_batch_size
        self.damaged = damaged
        self.measured = measured
        self._windows: tuple[Any, Any] = (None, None)

    @cached_property
    def _train_arrays(self) -> Any:
        return self.parallel.replicate(self.data.examples.arrays())

    @cached_property
    def _eval_arrays(self) -> Any:
        return self.parallel.replicate(self.eval_examples.arrays())

    def train(self, step: int, seeds: tuple[int, ...]) -> tuple[Any, Any]:
        """Arguments of the training call that begins at `step`, of the runs with these seeds."""
        wanted = self.data.window_number(step), seeds
        if wanted != self._windows[0]:
            windows = [self.data.window(step, seed) for seed in seeds]
            self._windows = wanted, self.parallel.stack(windows)
        return self._windows[1], self._train_arrays

    def train_batch(self, step: jax.Array, key: jax.Array, window: Batch, arrays: Batch) -> Batch:
        """The batch of `step` of the run with this key, traced."""
        positions = self.parallel.positions(self.data.batch_size)
        return self.data.batch(arrays, window, key, step, positions, self.preprocessing)

    def close(self) -> None:
        """There is nothing to stop."""

    def take_wait(self) -> dict[str, float]:
        """Nothing: there is no wait."""
        return {}

    def evaluation(self) -> Iterator[tuple[Any, Any]]:
        """Arguments of the evaluation calls."""
        for index in range(-(-len(self.eval_examples) // self.eval_batch_size)):
            yield (), (self._eval_arrays, self.parallel.replicate(np.int32(index)))

    def eval_batch(self, own: tuple[()], shared: tuple[Batch, jax.Array]) -> Batch:
        """The evaluation batch of an index, traced."""
        arrays, index = shared
        positions = self.parallel.positions(self.eval_batch_size)
        indices, mask = eval_mask(index, positions, self.eval_batch_size, len(self.eval_examples))
        image = self.preprocessing.normalise(arrays["image"][indices])
        return {"image": image, "label": arrays["label"][indices], "mask": mask}
