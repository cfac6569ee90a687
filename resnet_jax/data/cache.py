"""Decoded splits and their statistics, computed once and kept on disk."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import numpy as np

from resnet_jax.data.damage import DamagedImages
from resnet_jax.data.decoding import DamagedImageError, pixels
from resnet_jax.data.examples import ArrayExamples, Examples, Source
from resnet_jax.data.images import Geometry, sized
from resnet_jax.errors import UserError
from resnet_jax.paths import local_path

STATISTICS_SAMPLE = 10_000


def cache_directory(configured: str | None = None) -> Path:
    """`configured`, else $RESNET_JAX_CACHE, else ~/.cache/resnet_jax."""
    default = os.environ.get("RESNET_JAX_CACHE") or "~/.cache/resnet_jax"
    local_path("$RESNET_JAX_CACHE")(default)
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
    geometry: Geometry,
    *,
    directory: Path,
    num_threads: int,
    damaged: DamagedImages | None = None,
) -> ArrayExamples:
    """All examples of a split as arrays, from the cache where they are there.

    Args:
        source, split: what to read.
        geometry: of the images.
        directory: of the cache.
        num_threads: threads that decode.
        damaged: where damaged images are counted, which are left out; None: none may be.

    Returns:
        images: uint8[examples, height, width, channels]; labels: int32[examples].

    Raises:
        UserError: the cache directory cannot be written, or too many images are damaged.
    """
    damaged = damaged or DamagedImages(0)
    shape = image_shape(source, geometry.size)
    form = f"{shape[0]}x{shape[1]}"
    if geometry.size is not None:
        form += f"-{geometry.crop_fraction!r}"
        form += "" if geometry.interpolation == "bilinear" else f"-{geometry.interpolation}"
    path = directory / f"{_stem(source, split)}-{form}.npz"
    if path.is_file():
        with np.load(path) as arrays:
            # Written since damaged images are left out.
            for name, problem in arrays.get("damaged", ()):
                damaged.add(DamagedImageError(str(name), str(problem)))
            return ArrayExamples(arrays["images"], arrays["labels"])

    examples = source.open(split)
    images, labels, problems = read_images(
        examples, range(len(examples)), shape, geometry, num_threads
    )
    found = [problem for problem in problems if problem is not None]
    for problem in found:
        damaged.add(problem)
    kept = np.array([problem is None for problem in problems], bool)
    if found:
        images, labels = images[kept], labels[kept]
    named = np.array([(problem.name, problem.problem) for problem in found], str).reshape(-1, 2)
    _write(path, lambda file: np.savez(file, images=images, labels=labels, damaged=named))
    return ArrayExamples(images, labels)


def read_images(
    examples: Examples,
    indices: Sequence[int],
    shape: tuple[int, int, int],
    geometry: Geometry,
    num_threads: int,
) -> tuple[np.ndarray, np.ndarray, list[DamagedImageError | None]]:
    """Some examples of a split as arrays.

    Args:
        examples: the split.
        indices: which.
        shape: of one image, once it has this geometry.
        geometry: of the images.
        num_threads: threads that decode.

    Returns:
        images: uint8[indices, height, width, channels]; labels: int32[indices]; what is wrong with each,
        whose row then means nothing, or None.
    """
    images, labels = np.empty((len(indices), *shape), np.uint8), np.empty(len(indices), np.int32)

    def read(row: int) -> DamagedImageError | None:
        try:
            image, labels[row] = examples[indices[row]]
            images[row] = sized(image, geometry)
        except DamagedImageError as error:
            return error
        return None

    with ThreadPoolExecutor(num_threads) as pool:
        problems = list(pool.map(read, range(len(indices))))
    return images, labels, problems


def statistics(
    source: Source,
    split: str,
    geometry: Geometry,
    examples: Examples,
    *,
    directory: Path,
    num_threads: int = 1,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of a split, computed once and kept.

    Args:
        source, split: what the statistics are of.
        geometry: of the images as the network sees them.
        examples: of this split. Every image of decoded ones, which have the geometry already, counts;
            of others, which are slow to read, 10,000 evenly spaced ones do, without those that are
            damaged.
        directory: of the cache.
        num_threads: threads that decode.

    Returns:
        mean, std: one number a channel, pixel values scaled to 0 to 1.

    Raises:
        UserError: all images are damaged, or the cache directory cannot be written.
    """
    content = "sampled"
    if isinstance(examples, ArrayExamples):
        content = hashlib.sha256(np.ascontiguousarray(examples.images).data).hexdigest()[:12]
    path = directory / f"{_stem(source, split)}-statistics-{content}.json"
    if path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
    else:
        if isinstance(examples, ArrayExamples):
            histogram = _histogram(examples.images)
        else:
            histogram = _sampled_histogram(source, split, examples, num_threads)
        mean, std = _mean_and_deviation(histogram)
        kept = {"mean": mean.tolist(), "std": std.tolist()}
        _write(path, lambda file: file.write(json.dumps(kept).encode()))
    return tuple(kept["mean"]), tuple(kept["std"])


def _sampled_histogram(
    source: Source, split: str, examples: Examples, num_threads: int
) -> np.ndarray:
    def of_example(index: int) -> np.ndarray | None:
        try:
            return _histogram([pixels(examples[index][0])])
        except DamagedImageError:
            return None

    picked = np.linspace(0, len(examples) - 1, min(len(examples), STATISTICS_SAMPLE))
    with ThreadPoolExecutor(num_threads) as pool:
        found = list(pool.map(of_example, picked.round().astype(int).tolist()))
    histograms = [histogram for histogram in found if histogram is not None]
    if not histograms:
        raise UserError("data split", split, f"of {source.name} has no image that can be read")
    return np.sum(histograms, 0)


def channel_statistics(images: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel of uint8[height, width, channels] images.

    Integer histograms make the result exact and independent of the order.

    Returns:
        mean, std: float64[channels], pixel values scaled to 0 to 1.
    """
    return _mean_and_deviation(_histogram(images))


def _histogram(images: Iterable[np.ndarray]) -> np.ndarray:
    """How many pixels of each channel have each value: int64[channels, 256]."""
    counts = (
        [np.bincount(channel.ravel(), minlength=256) for channel in np.moveaxis(image, -1, 0)]
        for image in images
    )
    return np.asarray(sum(map(np.array, counts)))


def _mean_and_deviation(histogram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    weights = histogram / histogram.sum(-1, keepdims=True)
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
