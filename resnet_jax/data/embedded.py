"""Data sets that need no files."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from resnet_jax.data import content
from resnet_jax.data.examples import ArrayExamples, Source
from resnet_jax.errors import UserError

# Pixels a side; 2,560 such images take 2 GB.
LARGEST_SYNTHETIC = 512


def _from_arrays(
    name: str, splits: Mapping[str, ArrayExamples], class_names: tuple[str, ...]
) -> Source:
    def open_split(split: str) -> ArrayExamples:
        if split not in splits:
            raise UserError("data split", split, f"{name} has {', '.join(splits)}")
        return splits[split]

    def digest(split: str) -> str:
        examples = open_split(split)
        return content.of_facts(*map(content.of_array, (examples.images, examples.labels)))

    shape = next(iter(splits.values())).images.shape[1:]
    return Source(name, class_names, shape, tuple(splits), open_split, digest)


def digits(**_: Any) -> Source:
    """scikit-learn's handwritten digits: 1,797 real 8×8 grey images, part of that package.

    A fixed permutation holds 360 out for `test` and leaves 1,437 for `train`.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    images = np.round(data.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = data.target.astype(np.int32)
    order = np.random.RandomState(0).permutation(len(labels))
    parts = {"train": order[360:], "test": order[:360]}
    splits = {split: ArrayExamples(images[part], labels[part]) for split, part in parts.items()}
    return _from_arrays("digits", splits, tuple(str(d) for d in range(10)))


def synthetic(image_size: int | None = None, **_: Any) -> Source:
    """Random images of ten classes (2,048 train, 512 test), for benchmarks.

    Args:
        image_size: height and width in pixels; 32 by default.
    """
    size = image_size or 32
    if size > LARGEST_SYNTHETIC:
        problem = f"synthetic images have at most {LARGEST_SYNTHETIC} pixels a side"
        raise UserError("data.image_size", size, problem, "they are all kept in memory")
    rng = np.random.default_rng(0)
    splits = {
        split: ArrayExamples(
            rng.integers(0, 256, (count, size, size, 3), np.uint8),
            rng.integers(0, 10, count).astype(np.int32),
        )
        for split, count in (("train", 2048), ("test", 512))
    }
    return _from_arrays("synthetic", splits, tuple(str(c) for c in range(10)))


EMBEDDED = {"digits": digits, "synthetic": synthetic}
