"""Decoded splits and their statistics, computed once and kept on disk."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import numpy as np

from resnet_jax.data.images import centre_crop
from resnet_jax.data.sources import ArrayExamples, Examples, Source
from resnet_jax.errors import UserError

STATISTICS_SAMPLE = 10_000


def cache_directory(configured: str | None = None) -> Path:
    """`configured`, else $RESNET_JAX_CACHE, else ~/.cache/resnet_jax."""
    default = os.environ.get("RESNET_JAX_CACHE") or "~/.cache/resnet_jax"
    return Path(configured or default).expanduser()


def image_shape(source: Source, image_size: int | None) -> tuple[int, int, int]:
    """(height, width, channels) of the images that a model will see.

    Raises:
        UserError: the images of the source differ in size and no size is set.
    """
    height, width, channels = source.image_shape
    if image_size is not None:
        return image_size, image_size, channels
    if height is None or width is None:
        raise UserError(
            "data.image_size",
            None,
            f"the images of {source.name} differ in size",
            "set it to a number of pixels",
        )
    return height, width, channels


def decoded(
    source: Source,
    split: str,
    *,
    image_size: int | None,
    crop_fraction: float,
    directory: Path,
    num_threads: int,
) -> ArrayExamples:
    """All examples of a split as arrays, from the cache where they are there.

    Args:
        source, split: what to read.
        image_size: height and width of the result in pixels; None keeps the source's own.
        crop_fraction: share of the shorter side that the centre crop keeps.
        directory: of the cache.
        num_threads: threads that decode.

    Returns:
        images: uint8[examples, height, width, channels]; labels: int32[examples].

    Raises:
        UserError: the cache directory cannot be written.
    """
    shape = image_shape(source, image_size)
    resize = image_size is not None
    geometry = f"{shape[0]}x{shape[1]}" + (f"-{crop_fraction!r}" if resize else "")
    path = directory / f"{_stem(source, split)}-{geometry}.npz"
    if path.is_file():
        with np.load(path) as arrays:
            return ArrayExamples(arrays["images"], arrays["labels"])

    examples = source.open(split)
    images = np.empty((len(examples), *shape), np.uint8)
    labels = np.empty(len(examples), np.int32)

    def read(index: int) -> None:
        image, labels[index] = examples[index]
        images[index] = centre_crop(image, shape[0], crop_fraction) if resize else image

    with ThreadPoolExecutor(num_threads) as pool:
        for _ in pool.map(read, range(len(examples))):
            pass
    _write(path, lambda file: np.savez(file, images=images, labels=labels))
    return ArrayExamples(images, labels)


def statistics(
    source: Source, split: str, directory: Path, examples: Examples
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of a split, computed once and kept.

    Args:
        source, split: what the statistics are of; they name the file in `directory`, together with
            the content of decoded examples, which depends on their size and crop.
        directory: of the cache.
        examples: of this split. Every image of decoded ones counts; of others, which are slow to
            read, 10,000 evenly spaced ones do.

    Returns:
        mean, std: one number a channel, pixel values scaled to 0 to 1.
    """
    content = "sampled"
    if isinstance(examples, ArrayExamples):
        content = hashlib.sha256(np.ascontiguousarray(examples.images).data).hexdigest()[:12]
    path = directory / f"{_stem(source, split)}-statistics-{content}.json"
    if path.is_file():
        kept = json.loads(path.read_text())
    else:
        if isinstance(examples, ArrayExamples):
            images: Iterable[np.ndarray] = examples.images
        else:
            picked = np.linspace(0, len(examples) - 1, min(len(examples), STATISTICS_SAMPLE))
            images = (examples[index][0] for index in picked.round().astype(int).tolist())
        mean, std = channel_statistics(images)
        kept = {"mean": mean.tolist(), "std": std.tolist()}
        _write(path, lambda file: file.write(json.dumps(kept).encode()))
    return tuple(kept["mean"]), tuple(kept["std"])


def channel_statistics(images: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel of uint8[height, width, channels] images.

    Integer histograms make the result exact and independent of the order.

    Returns:
        mean, std: float64[channels], pixel values scaled to 0 to 1.
    """
    histogram = sum(
        np.stack(
            [np.bincount(channel.ravel(), minlength=256) for channel in np.moveaxis(image, -1, 0)]
        )
        for image in images
    )
    weights = np.asarray(histogram / np.sum(histogram, -1, keepdims=True))
    values = np.arange(256) / 255
    mean = weights @ values
    variance = weights @ np.square(values) - np.square(mean)
    return mean, np.sqrt(np.maximum(variance, 1e-12))


def _stem(source: Source, split: str) -> str:
    # Different sub-splits, such as train[:50%] and train[50%:], have different names.
    return f"{source.fingerprint}-{quote(split, safe='')}"


def _write(path: Path, write: Callable) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            try:
                write(file)
                file.flush()
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise UserError(
            "data.cache_dir",
            str(path.parent),
            f"cannot be written ({error.strerror})",
            "set it, or $RESNET_JAX_CACHE, to a directory with free space",
        ) from error
