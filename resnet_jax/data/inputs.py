"""How the batches of a config are made: `OnDevice` where both splits fit the devices, else `Streaming`.

Both have one interface. `train_arguments(step, seed)` and `eval_batches()` give the placed arguments of
a compiled call; `train_batch` and `eval_batch` are traced into it and turn these into a batch.
"""

import math
from collections.abc import Callable
from typing import Any

from resnet_jax.config import Config
from resnet_jax.data import cache
from resnet_jax.data.damage import DamagedImages
from resnet_jax.data.devices import SplittingDevices
from resnet_jax.data.examples import ArrayExamples, Examples, Source
from resnet_jax.data.images import Geometry
from resnet_jax.data.on_device import OnDevice
from resnet_jax.data.preprocessing import Preprocessing, make_preprocessing
from resnet_jax.data.splits import warnings_of
from resnet_jax.data.stream import HostStream
from resnet_jax.data.streaming import Streaming
from resnet_jax.errors import UserError, choose, warn

Inputs = OnDevice | Streaming
# Mean and standard deviation of each channel.
Statistics = tuple[tuple[float, ...], tuple[float, ...]]


def make_inputs(
    config: Config,
    source: Source,
    devices: SplittingDevices,
    eval_split: str,
    geometries: tuple[Geometry, Geometry],
    constants: Statistics | None = None,
    evaluates: bool = False,
    begin_process: Callable[[int, int], None] | None = None,
) -> Inputs:
    """The inputs of a config: on the devices where both splits fit, else streamed.

    Args:
        config: the whole config.
        source: its data set.
        devices: where batches go.
        eval_split: the split that is evaluated.
        geometries: of the training images, where crops are not random, and of the evaluated ones.
        constants: that images are normalised by; None: measured on the training images.
        evaluates: nothing is trained: the training split need not be there.
        begin_process: called in each process that decodes.

    Raises:
        UserError: a split that does not exist or is empty, corrupt images, or fields that contradict
            each other.
    """
    data, (train_geometry, eval_geometry) = config.data, geometries
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

    def preprocessing(measured: Statistics | None) -> Preprocessing:
        used = constants or measured
        assert used is not None, "an evaluation has the constants of its run"
        return make_preprocessing(config, *used)

    damaged, count = DamagedImages(data.max_bad_examples), devices.num_devices
    eval_batch_size = -(-config.evaluate.batch_size // count) * count
    common: dict[str, Any] = {"damaged": damaged, "eval_batch_size": eval_batch_size}
    if _fits_devices(config, source, eval_geometry, len(train), len(evaluation)):
        held_out = _decoded(config, source, eval_split, evaluation, eval_geometry, damaged)
        trained = held_out
        if not evaluates:
            trained = _decoded(config, source, data.train_split, train, train_geometry, damaged)
        # Decoded images have their geometry already.
        measured = None if evaluates else _measured(config, source, Geometry(None), trained)
        return OnDevice(
            trained,
            held_out,
            preprocessing(measured),
            devices,
            batch_size=config.train.batch_size,
            steps_per_call=config.train.steps_per_call,
            repeats=data.repeats,
            measured=measured,
            **common,
        )
    measured = None if evaluates else _measured(config, source, train_geometry, train)
    return Streaming(
        _host_stream(config, source, train, train_geometry, devices),
        evaluation,
        preprocessing(measured),
        devices,
        eval_geometry=eval_geometry,
        eval_shape=cache.image_shape(source, eval_geometry.size),
        begin_process=begin_process,
        measured=measured,
        **common,
    )


def _check_not_empty(source: Source, split: str, examples: Examples) -> None:
    if not len(examples):
        raise UserError("data split", split, f"of {source.name} has no examples")


def _decoded(
    config: Config,
    source: Source,
    split: str,
    examples: Examples,
    geometry: Geometry,
    damaged: DamagedImages,
) -> ArrayExamples:
    decoded = cache.decoded(
        source,
        split,
        geometry,
        directory=cache.cache_directory(config.data.cache_dir),
        num_threads=config.data.num_threads,
        damaged=damaged,
        examples=examples,
    )
    _check_not_empty(source, split, decoded)
    return decoded


def _host_stream(
    config: Config,
    source: Source,
    train: Examples,
    geometry: Geometry,
    devices: SplittingDevices,
) -> HostStream:
    data, batch_size = config.data, config.train.batch_size
    return HostStream(
        train,
        geometry,
        batch_size=batch_size,
        shape=cache.image_shape(source, geometry.size),
        random_crop=data.random_resized_crop,
        num_threads=data.num_threads,
        num_processes=data.num_processes,
        repeats=data.repeats,
        positions=range(batch_size)[devices.share(batch_size)],
        max_damaged=data.max_bad_examples,
    )


def _measured(config: Config, source: Source, geometry: Geometry, train: Examples) -> Statistics:
    data = config.data
    directory = cache.cache_directory(data.cache_dir)
    threads = data.num_threads
    return cache.statistics(
        source, data.train_split, geometry, train, directory=directory, num_threads=threads
    )


def _fits_devices(
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
