"""Inputs of the compiled steps: how the data's pipeline meets the devices.

`DeviceInputs` and `StreamInputs` have one interface. `train(step, seeds)` and `evaluation()` give
placed arguments for a compiled function: those of each run, and those that all runs of a program
share. `train_batch` and `eval_batch` are traced into it and turn these arguments into a batch.
"""

import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from resnet_jax.data import cache
from resnet_jax.data.pipeline import (
    DeviceData,
    StreamData,
    eval_mask,
    host_eval_batches,
)
from resnet_jax.data.preprocessing import Preprocessing, make_preprocessing
from resnet_jax.data.sources import ArrayExamples, Examples, Source
from resnet_jax.errors import UserError, choose
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
    """

    placement = "replicated"

    def __init__(
        self,
        data: DeviceData,
        eval_examples: ArrayExamples,
        preprocessing: Preprocessing,
        parallel: Parallel,
        eval_batch_size: int,
    ) -> None:
        self.data, self.preprocessing, self.parallel = data, preprocessing, parallel
        self.eval_examples, self.eval_batch_size = eval_examples, eval_batch_size
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


class StreamInputs:
    """Batches come from the host; a call gets one batch, split over the devices.

    Args:
        data: training stream.
        eval_examples: evaluation split.
        preprocessing: traced into the steps.
        parallel: where batches go.
        eval_batch_size: a multiple of the devices.
        image_size, crop_fraction, num_threads: how evaluation images are read.
    """

    placement = "split"

    def __init__(
        self,
        data: StreamData,
        eval_examples: Examples,
        preprocessing: Preprocessing,
        parallel: Parallel,
        eval_batch_size: int,
        *,
        image_size: int | None,
        crop_fraction: float,
        num_threads: int,
    ) -> None:
        self.data, self.preprocessing, self.parallel = data, preprocessing, parallel
        self.eval_examples, self.eval_batch_size = eval_examples, eval_batch_size
        self._reading = image_size, crop_fraction, num_threads
        self._next: tuple[Any, ...] = ()
        self._batches: Iterator[dict[str, np.ndarray]] = iter(())

    def train(self, step: int, seeds: tuple[int, ...]) -> tuple[Any, Any]:
        """Arguments of the training call at `step`; the next batches are decoded meanwhile.

        Args:
            step: of the run.
            seeds: that of one run; runs that stream are not trained together.
        """
        (seed,) = seeds
        if (step, seed) != self._next:
            self._batches = self.data.host_batches(step, seed)
        self._next = step + 1, seed
        return self._place(next(self._batches)), ()

    def train_batch(
        self, step: jax.Array, key: jax.Array, batch: Batch, shared: tuple[()]
    ) -> Batch:
        """The batch of `step` of the run with this key, traced."""
        positions = self.parallel.positions(self.data.batch_size)
        return self.preprocessing.train_batch(
            batch["image"], batch["label"], key, step, self.data.batch_size, positions
        )

    def evaluation(self) -> Iterator[tuple[Any, Any]]:
        """Arguments of the evaluation calls."""
        for batch in host_eval_batches(self.eval_examples, self.eval_batch_size, *self._reading):
            yield self._place(batch), ()

    def _place(self, batch: dict[str, np.ndarray]) -> Any:
        share = self.parallel.share(len(batch["label"]))
        return self.parallel.split({name: array[share] for name, array in batch.items()})

    def eval_batch(self, batch: Batch, shared: tuple[()]) -> Batch:
        """The evaluation batch, traced."""
        return {**batch, "image": self.preprocessing.normalise(batch["image"])}


Inputs = DeviceInputs | StreamInputs


def make_inputs(config: ConfigDict, source: Source, parallel: Parallel, eval_split: str) -> Inputs:
    """The inputs of a config: on the device where both splits fit, else streamed.

    Raises:
        UserError: a split that does not exist or is empty, or fields that contradict each other.
    """
    data = config.data
    train, evaluation = source.open(data.train_split), source.open(eval_split)
    for split, examples in ((data.train_split, train), (eval_split, evaluation)):
        if not len(examples):
            raise UserError("data split", split, f"of {source.name} has no examples")
    height, width, _ = cache.image_shape(source, data.image_size)
    if data.pad >= min(height, width):
        problem = f"must be smaller than the images of {source.name} ({height}×{width})"
        raise UserError("data.pad", data.pad, problem)
    devices = parallel.num_devices
    eval_batch_size = -(-config.evaluate.batch_size // devices) * devices
    if _on_device(config, source, len(train) + len(evaluation)):
        return _device_inputs(config, source, parallel, eval_split, eval_batch_size)

    directory = cache.cache_directory(data.cache_dir)
    mean, std = cache.statistics(source, data.train_split, directory, train)
    reading = {
        "image_size": data.image_size,
        "crop_fraction": data.crop_fraction,
        "num_threads": data.num_threads,
    }
    stream = StreamData(
        train,
        batch_size=config.train.batch_size,
        random_crop=data.random_resized_crop,
        **reading,
    )
    preprocessing = make_preprocessing(config, mean, std)
    return StreamInputs(stream, evaluation, preprocessing, parallel, eval_batch_size, **reading)


def _device_inputs(
    config: ConfigDict, source: Source, parallel: Parallel, eval_split: str, eval_batch_size: int
) -> DeviceInputs:
    data = config.data
    directory = cache.cache_directory(data.cache_dir)

    def decoded(split: str) -> ArrayExamples:
        return cache.decoded(
            source,
            split,
            image_size=data.image_size,
            crop_fraction=data.crop_fraction,
            directory=directory,
            num_threads=data.num_threads,
        )

    train = decoded(data.train_split)
    mean, std = cache.statistics(source, data.train_split, directory, train)
    split = DeviceData(
        train,
        batch_size=config.train.batch_size,
        steps_per_call=config.train.steps_per_call,
    )
    preprocessing = make_preprocessing(config, mean, std)
    return DeviceInputs(split, decoded(eval_split), preprocessing, parallel, eval_batch_size)


def _on_device(config: ConfigDict, source: Source, num_examples: int) -> bool:
    data = config.data
    fits = num_examples * math.prod(cache.image_shape(source, data.image_size))
    placements = {
        "auto": fits <= data.max_device_bytes and not data.random_resized_crop,
        "device": True,
        "stream": False,
    }
    on_device = choose("data.placement", data.placement, placements)
    if on_device and data.random_resized_crop:
        raise UserError("data.random_resized_crop", True, "needs data.placement 'stream'")
    if data.random_resized_crop and data.image_size is None:
        raise UserError("data.image_size", None, "random_resized_crop needs it", "set it in pixels")
    if config.train.steps_per_call > 1 and not on_device:
        raise UserError(
            "train.steps_per_call",
            config.train.steps_per_call,
            f"must be 1 where {source.name} streams from the host",
            "or set data.placement to 'device'",
        )
    return on_device
