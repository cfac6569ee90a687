"""Inputs of the compiled steps: how the data's pipeline meets the devices.

`DeviceInputs` and `StreamInputs` have one interface. `train(step, seeds)` and `evaluation()` give
placed arguments for a compiled function: those of each run, and those that all runs of a program
share. `train_batch` and `eval_batch` are traced into it and turn these arguments into a batch.
"""

import math

from ml_collections import ConfigDict

from resnet_jax.data import cache
from resnet_jax.data.damage import DamagedImages
from resnet_jax.data.examples import ArrayExamples, Examples, Source
from resnet_jax.data.images import Geometry
from resnet_jax.data.pipeline import DeviceData
from resnet_jax.data.preprocessing import make_preprocessing
from resnet_jax.data.stream import StreamData
from resnet_jax.errors import UserError, choose
from resnet_jax.training.device_inputs import DeviceInputs
from resnet_jax.training.parallel import Parallel
from resnet_jax.training.stream_inputs import StreamInputs

Inputs = DeviceInputs | StreamInputs


def make_inputs(config: ConfigDict, source: Source, parallel: Parallel, eval_split: str) -> Inputs:
    """The inputs of a config: on the device where both splits fit, else streamed.

    Raises:
        UserError: a split that does not exist or is empty, damaged images, or fields that contradict
            each other.
    """
    data = config.data
    _check_evaluation(config)
    train, evaluation = source.open(data.train_split), source.open(eval_split)
    for split, examples in ((data.train_split, train), (eval_split, evaluation)):
        _check_not_empty(source, split, examples)
    height, width, _ = cache.image_shape(source, data.image_size)
    if data.pad >= min(height, width):
        problem = f"must be smaller than the images of {source.name} ({height}×{width})"
        raise UserError("data.pad", data.pad, problem)
    devices = parallel.num_devices
    eval_batch_size = -(-config.evaluate.batch_size // devices) * devices
    if _on_device(config, source, len(train), len(evaluation)):
        return _device_inputs(config, source, parallel, eval_split, eval_batch_size)
    return _stream_inputs(config, source, parallel, evaluation, eval_batch_size)


def _check_not_empty(source: Source, split: str, examples: Examples) -> None:
    if not len(examples):
        raise UserError("data split", split, f"of {source.name} has no examples")


def _stream_inputs(
    config: ConfigDict,
    source: Source,
    parallel: Parallel,
    evaluation: Examples,
    eval_batch_size: int,
) -> StreamInputs:
    data, batch_size = config.data, config.train.batch_size
    train = source.open(data.train_split)
    directory = cache.cache_directory(data.cache_dir)
    geometry = train_geometry(config)
    mean, std = cache.statistics(
        source,
        data.train_split,
        geometry,
        train,
        directory=directory,
        num_threads=data.num_threads,
    )
    stream = StreamData(
        train,
        geometry,
        batch_size=batch_size,
        random_crop=data.random_resized_crop,
        num_threads=data.num_threads,
        num_processes=data.num_processes,
        repeats=data.repeats,
        positions=range(batch_size)[parallel.share(batch_size)],
        max_damaged=data.max_bad_examples,
    )
    reading = {
        "geometry": eval_geometry(config, streams=True),
        "num_threads": data.num_threads,
    }
    preprocessing = make_preprocessing(config, mean, std)
    damaged = DamagedImages(data.max_bad_examples)
    return StreamInputs(
        stream, evaluation, preprocessing, parallel, eval_batch_size, reading, damaged
    )


def _device_inputs(
    config: ConfigDict, source: Source, parallel: Parallel, eval_split: str, eval_batch_size: int
) -> DeviceInputs:
    data = config.data
    directory = cache.cache_directory(data.cache_dir)
    damaged = DamagedImages(data.max_bad_examples)

    def decoded(split: str, geometry: Geometry) -> ArrayExamples:
        examples = cache.decoded(
            source,
            split,
            geometry,
            directory=directory,
            num_threads=data.num_threads,
            damaged=damaged,
        )
        _check_not_empty(source, split, examples)
        return examples

    geometry = train_geometry(config)
    train = decoded(data.train_split, geometry)
    evaluation = decoded(eval_split, eval_geometry(config, streams=False))
    mean, std = cache.statistics(source, data.train_split, geometry, train, directory=directory)
    split = DeviceData(
        train,
        batch_size=config.train.batch_size,
        steps_per_call=config.train.steps_per_call,
        repeats=data.repeats,
    )
    preprocessing = make_preprocessing(config, mean, std)
    return DeviceInputs(split, evaluation, preprocessing, parallel, eval_batch_size, damaged)


def _check_evaluation(config: ConfigDict) -> None:
    evaluate, size = config.evaluate, config.evaluate.image_size or config.data.image_size
    if evaluate.crops == 1:
        return
    if evaluate.scales:
        raise UserError("evaluate.crops", evaluate.crops, "does not go with evaluate.scales")
    if size is None:
        problem = "evaluate.crops needs it"
        raise UserError("evaluate.image_size", None, problem, "set the size of a crop in pixels")
    if eval_geometry(config, streams=False).size == size:
        problem = "leaves evaluate.crops one place to cut from"
        fraction = evaluate.crop_fraction or config.data.crop_fraction
        raise UserError("evaluate.crop_fraction", fraction, problem, "set it to 0.875, say")


def ten_crop_size(config: ConfigDict) -> int | None:
    """Size in pixels of the ten crops of an evaluation; None: it has none."""
    size = config.evaluate.image_size or config.data.image_size
    return size if config.evaluate.crops > 1 else None


def train_geometry(config: ConfigDict) -> Geometry:
    """Geometry of training images, where crops are not random."""
    data = config.data
    return Geometry(data.image_size, data.crop_fraction, data.interpolation or "bilinear")


def eval_geometry(config: ConfigDict, streams: bool) -> Geometry:
    """Geometry of the images that evaluation reads.

    For ten crops that is the square which they are cut from, the whole resized image.
    """
    evaluate, data = config.evaluate, config.data
    size = evaluate.image_size or data.image_size
    if streams and evaluate.scales and evaluate.image_size is None:
        size = max(evaluate.scales)
    fraction = evaluate.crop_fraction or data.crop_fraction
    if evaluate.crops > 1:
        size, fraction = round(size / fraction), 1.0
    return Geometry(size, fraction, train_geometry(config).interpolation)


def _on_device(config: ConfigDict, source: Source, num_train: int, num_eval: int) -> bool:
    data = config.data
    of_train = cache.image_shape(source, data.image_size)
    of_eval = cache.image_shape(source, eval_geometry(config, streams=False).size)
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
