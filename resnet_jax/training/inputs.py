"""Inputs of the compiled steps: how the data's pipeline meets the devices.

`DeviceInputs` and `StreamInputs` have one interface. `train(step, seeds)` and `evaluation()` give
placed arguments for a compiled function: those of each run, and those that all runs of a program
share. `train_batch` and `eval_batch` are traced into it and turn these arguments into a batch.
"""

import math

from resnet_jax.config import Config
from resnet_jax.data import cache
from resnet_jax.data.damage import DamagedImages
from resnet_jax.data.examples import ArrayExamples, Examples, Source
from resnet_jax.data.images import Geometry
from resnet_jax.data.pipeline import DeviceData
from resnet_jax.data.preprocessing import Preprocessing, make_preprocessing
from resnet_jax.data.splits import warnings_of
from resnet_jax.data.stream import StreamData
from resnet_jax.errors import UserError, choose, warn
from resnet_jax.training.device_inputs import DeviceInputs
from resnet_jax.training.parallel import Parallel
from resnet_jax.training.preparation import (
    Preparation,
    evaluated_image,
    train_geometry,
)
from resnet_jax.training.stream_inputs import StreamInputs

Inputs = DeviceInputs | StreamInputs
# Mean and standard deviation of each channel.
Statistics = tuple[tuple[float, ...], tuple[float, ...]]


def make_inputs(
    config: Config,
    source: Source,
    parallel: Parallel,
    eval_split: str,
    preparation: Preparation | None = None,
    evaluates: bool = False,
) -> Inputs:
    """The inputs of a config: on the device where both splits fit, else streamed.

    Args:
        config: the whole config.
        source: its data set.
        parallel: the devices.
        eval_split: the split that is evaluated.
        preparation: constants of the images; without a mean, that of the training images is taken.
        evaluates: nothing is trained: the training split need not be there.

    Raises:
        UserError: a split that does not exist or is empty, corrupt images, or fields that contradict
            each other.
    """
    data = config.data
    preparation = preparation or Preparation()
    image = evaluated_image(config, preparation.interpolation)
    evaluation = source.open(eval_split)
    train = evaluation if evaluates else source.open(data.train_split)
    for split, examples in ((data.train_split, train), (eval_split, evaluation)):
        _check_not_empty(source, split, examples)
    if not evaluates:
        for message in warnings_of(source, data.train_split, train, eval_split):
            warn(message)
    height, width, _ = cache.image_shape(source, data.image_size)
    if data.pad >= min(height, width):
        problem = f"must be smaller than the images of {source.name} ({height}×{width})"
        raise UserError("data.pad", data.pad, problem)
    geometry = train_geometry(config, preparation.interpolation)
    damaged = DamagedImages(data.max_bad_examples)
    devices = parallel.num_devices
    eval_batch_size = -(-config.evaluate.batch_size // devices) * devices

    def prepared(train: Examples, geometry: Geometry) -> tuple[Preprocessing, Statistics | None]:
        measured = None if evaluates else _measured(config, source, geometry, train)
        return _preprocessing(config, preparation, measured), measured

    if _on_device(config, source, image.geometry, len(train), len(evaluation)):
        held_out = _decoded(config, source, eval_split, image.geometry, damaged)
        trained = held_out
        if not evaluates:
            trained = _decoded(config, source, data.train_split, geometry, damaged)
        # Decoded images have their geometry already.
        preprocessing, measured = prepared(trained, Geometry(None))
        common = (preprocessing, parallel, eval_batch_size)
        return DeviceInputs(_device_data(config, trained), held_out, *common, damaged, measured)
    preprocessing, measured = prepared(train, geometry)
    stream = _stream_data(config, source, train, geometry, parallel)
    reading = {
        "geometry": image.geometry,
        "shape": cache.image_shape(source, image.geometry.size),
        "num_threads": data.num_threads,
    }
    common = (preprocessing, parallel, eval_batch_size)
    return StreamInputs(stream, evaluation, *common, reading, damaged, measured)


def _check_not_empty(source: Source, split: str, examples: Examples) -> None:
    if not len(examples):
        raise UserError("data split", split, f"of {source.name} has no examples")


def _decoded(
    config: Config, source: Source, split: str, geometry: Geometry, damaged: DamagedImages
) -> ArrayExamples:
    examples = cache.decoded(
        source,
        split,
        geometry,
        directory=cache.cache_directory(config.data.cache_dir),
        num_threads=config.data.num_threads,
        damaged=damaged,
    )
    _check_not_empty(source, split, examples)
    return examples


def _device_data(config: Config, train: ArrayExamples) -> DeviceData:
    return DeviceData(
        train,
        batch_size=config.train.batch_size,
        steps_per_call=config.train.steps_per_call,
        repeats=config.data.repeats,
    )


def _stream_data(
    config: Config, source: Source, train: Examples, geometry: Geometry, parallel: Parallel
) -> StreamData:
    data, batch_size = config.data, config.train.batch_size
    return StreamData(
        train,
        geometry,
        batch_size=batch_size,
        shape=cache.image_shape(source, geometry.size),
        random_crop=data.random_resized_crop,
        num_threads=data.num_threads,
        num_processes=data.num_processes,
        repeats=data.repeats,
        positions=range(batch_size)[parallel.share(batch_size)],
        max_damaged=data.max_bad_examples,
    )


def _measured(config: Config, source: Source, geometry: Geometry, train: Examples) -> Statistics:
    data = config.data
    directory = cache.cache_directory(data.cache_dir)
    threads = data.num_threads
    return cache.statistics(
        source, data.train_split, geometry, train, directory=directory, num_threads=threads
    )


def _preprocessing(
    config: Config, preparation: Preparation, measured: Statistics | None
) -> Preprocessing:
    if preparation.mean is not None and preparation.std is not None:
        return make_preprocessing(config, preparation.mean, preparation.std)
    assert measured is not None, "an evaluation has the constants of its run"
    return make_preprocessing(config, *measured)


def _on_device(
    config: Config, source: Source, evaluated: Geometry, num_train: int, num_eval: int
) -> bool:
    data = config.data
    of_train = cache.image_shape(source, data.image_size)
    of_eval = cache.image_shape(source, evaluated.size)
    num_bytes = num_train * math.prod(of_train) + num_eval * math.prod(of_eval)
    placements = {
        "auto": num_bytes <= data.max_device_bytes and not data.random_resized_crop,
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
