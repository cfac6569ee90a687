"""Decoded splits and their statistics, computed once and kept on disk.

The name of a file has a digest of all that it was made from: the bytes of the data, the class names,
the geometry, and the version of what decodes. So data that changed are decoded again, and data that
were moved, renamed or touched are not.
"""

import errno
import functools
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import simplejpeg

from resnet_jax.data import channels, content
from resnet_jax.data.damage import DamagedImages
from resnet_jax.data.decoding import VERSION, DamagedImageError, EncodedImage
from resnet_jax.data.examples import ArrayExamples, Examples, Source
from resnet_jax.data.folder import TRAIN
from resnet_jax.data.images import Geometry, differing_sizes, sized
from resnet_jax.data.labels import PROBED, evenly_spaced
from resnet_jax.errors import UserError, warn
from resnet_jax.files import open_file, replaced
from resnet_jax.paths import expanded, local_path
from resnet_jax.strict_json import read_json, to_json

STATISTICS_SAMPLE = 10_000
DIGEST_SAMPLE = 1_000


def cache_directory(configured: str | None = None) -> Path:
    """`configured`, else $RESNET_JAX_CACHE, else ~/.cache/resnet_jax.

    Raises:
        UserError: the variable holds no local path, or there is no home directory.
    """
    default = os.environ.get("RESNET_JAX_CACHE") or "~/.cache/resnet_jax"
    local_path("$RESNET_JAX_CACHE")(default)
    if configured:
        return expanded("data.cache_dir", configured)
    return expanded("$RESNET_JAX_CACHE", default)


def image_shape(source: Source, image_size: int | None) -> tuple[int, int, int]:
    """(height, width, channels) of the images that a model will see.

    Raises:
        UserError: the images of the source differ in size and no size is set.
    """
    height, width, channels = source.image_shape
    if image_size is not None:
        return image_size, image_size, channels
    if height is None or width is None:
        height, width = _common_size(source)
    return height, width, channels


@functools.lru_cache(maxsize=8)
def _common_size(source: Source) -> tuple[int, int]:
    """Height and width of evenly spaced images; the others are compared with it as they are read."""
    split = TRAIN if TRAIN in source.splits else source.splits[0]
    examples, found = source.open(split), None
    for index in evenly_spaced(len(examples), PROBED):
        try:
            image, _ = examples[index]
        except DamagedImageError:
            continue
        height, width, _ = image.shape
        found = found or (height, width)
        if (height, width) != found:
            name = getattr(image, "name", f"example {index}")
            raise differing_sizes(image.shape, found, name, source.name)
    if found is None:
        raise _no_image(source, split)
    return found


def decoded(
    source: Source,
    split: str,
    geometry: Geometry,
    *,
    directory: Path,
    num_threads: int,
    damaged: DamagedImages | None = None,
    examples: Examples | None = None,
) -> ArrayExamples:
    """All examples of a split as arrays, from the cache where they are there.

    They are there where the same content was decoded in the same way, under whatever name.

    Args:
        source, split: what to read.
        geometry: of the images.
        directory: of the cache.
        num_threads: threads that decode.
        damaged: where images that cannot be read are counted, which are left out; None: none may be.
        examples: the split, where it is open already.

    Returns:
        images: uint8[examples, height, width, channels]; labels: int32[examples].

    Raises:
        UserError: the cache directory cannot be made or is full, or too many images cannot be read.
    """
    damaged = damaged or DamagedImages(0)
    examples = source.open(split) if examples is None else examples
    shape = image_shape(source, geometry.size)
    key = _key(source.content(split), source.class_names, _facts(geometry), shape)
    path = directory / f"{_stem(source, split)}-{key}.npz"
    arrays = _load(path, shape)
    if arrays is None:
        arrays = decode = _decode(examples, shape, geometry, num_threads, damaged)
        _write(path, lambda file: np.savez(file, allow_pickle=False, **decode))
    else:
        for index in arrays["damaged"].tolist():
            damaged.note(examples, index)
    return ArrayExamples(arrays["images"], arrays["labels"])


def _decode(
    examples: Examples,
    shape: tuple[int, int, int],
    geometry: Geometry,
    num_threads: int,
    damaged: DamagedImages,
) -> dict[str, np.ndarray]:
    everything = range(len(examples))
    images, labels, problems = read_images(examples, everything, shape, geometry, num_threads)
    wrong = [index for index, problem in enumerate(problems) if problem is not None]
    for problem in filter(None, problems):
        damaged.add(problem)
    if wrong:
        images, labels = np.delete(images, wrong, 0), np.delete(labels, wrong)
    return {"images": images, "labels": labels, "damaged": np.array(wrong, np.int64)}


def _load(path: Path, shape: tuple[int, int, int]) -> dict[str, np.ndarray] | None:
    """What `decoded` wrote; None where there is no such file, or one that cannot be used.

    The CRC-32 of each array is that of its bytes, which are read to their end.
    """
    try:
        with open_file(path) as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("images", "labels", "damaged")}
        if arrays["images"].shape == (len(arrays["labels"]), *shape):
            return arrays
        reason = "it has other shapes"
    # None yet, or one that this user may not read.
    except OSError:
        return None
    # A corrupt file can fail in any way, and is written again.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    warn(f"{path} is corrupt ({reason}): decoding again")
    return None


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
            images[row] = sized(image, geometry, shape)
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
        source, split: what the statistics are of, for error messages.
        geometry: that the images will have when the network sees them; of decoded examples, which
            have it already, `Geometry(None)`.
        examples: of this split. Every image of decoded ones counts; of others, which are slow to
            read, at most 10,000 evenly spaced ones do, without those that cannot be read.
        directory: of the cache.
        num_threads: threads that decode.

    Returns:
        mean, std: one number a channel, pixel values scaled to 0 to 1.

    Raises:
        UserError: no image can be read, or the cache directory cannot be made or is full.
    """
    whole = geometry.size is None
    picked = evenly_spaced(len(examples), STATISTICS_SAMPLE)
    if isinstance(examples, ArrayExamples) and whole:
        digest = content.of_array(examples.images)
    else:
        digest = content.of_each(lambda index: _of_image(examples, index), picked)
    key = _key(digest, _facts(geometry), channels.LEAST, channels.LEAST_SHARE)
    path = directory / f"{_stem(source, split)}-statistics-{key}.json"
    kept = _load_statistics(path)
    if kept is None:
        if isinstance(examples, ArrayExamples) and whole:
            histogram = channels.histogram(examples.images)
        else:
            histogram = channels.histogram_of(examples, picked, geometry, num_threads)
        if not histogram.any():
            raise _no_image(source, split)
        mean, std = channels.mean_and_deviation(histogram)
        kept = {"mean": mean.tolist(), "std": std.tolist()}
        text = to_json(kept | {"digest": content.of_facts(kept)}).encode()
        _write(path, lambda file: file.write(text))
    return tuple(kept["mean"]), tuple(kept["std"])


def _load_statistics(path: Path) -> dict[str, list[float]] | None:
    try:
        kept = read_json(path)
        digest = kept.pop("digest")
    except (OSError, ValueError, KeyError):
        return None
    return kept if digest == content.of_facts(kept) else None


def digest(examples: Examples) -> str:
    """Digest of the examples, to compare them with those that another process has.

    Of the number, all labels that are in memory, and the images: all of decoded ones, of others at most
    `DIGEST_SAMPLE` evenly spaced ones with their labels.
    """
    picked = evenly_spaced(len(examples), DIGEST_SAMPLE)
    if isinstance(examples, ArrayExamples):
        images = content.of_array(examples.images)
    else:
        images = content.of_each(lambda index: _of_example(examples, index), picked)
    labels = getattr(examples, "labels", None)
    of_labels = None if labels is None else content.of_array(np.asarray(labels, np.int32))
    return content.of_facts(len(examples), images, of_labels)


def _of_example(examples: Examples, index: int) -> str:
    try:
        return content.of_facts(_of_image(examples, index), int(examples[index][1]))
    except DamagedImageError:
        return "unreadable"


def _of_image(examples: Examples, index: int) -> str:
    try:
        image = examples[index][0]
    except DamagedImageError as error:
        return error.problem
    if isinstance(image, EncodedImage):
        return content.of_facts(content.of_bytes(image.content), image.channels)
    return content.of_array(image)


def _no_image(source: Source, split: str) -> UserError:
    return UserError("data split", split, f"of {source.name} has no image that can be read")


def _facts(geometry: Geometry) -> dict[str, Any] | None:
    return None if geometry.size is None else asdict(geometry)


def _key(*facts: Any) -> str:
    """What a file of the cache was made from and how, in 16 characters."""
    libraries = PIL.__version__, simplejpeg.__version__
    return content.of_facts(VERSION, libraries, *facts)[:16]


def _stem(source: Source, split: str) -> str:
    """For the eye only; what counts is the key."""
    return re.sub(r"[^A-Za-z0-9]+", "-", f"{source.name} {split}").strip("-")[-40:]


def _write(path: Path, write: Callable) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path) as file:
            write(file)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            # Another user's, say: the data can be decoded each time.
            warn(f"the cache {path.parent} cannot be written ({error.strerror}): nothing is kept")
            return
        raise UserError(
            "data.cache_dir",
            str(path.parent),
            f"cannot be written ({error.strerror})",
            "set it, or $RESNET_JAX_CACHE, to a directory with free space",
        ) from error
