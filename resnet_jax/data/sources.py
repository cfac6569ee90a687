"""Sources: a name stands for random-access examples and the facts about them."""

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from resnet_jax.errors import UserError, nearest


class Examples(Protocol):
    """Random access to one split: `examples[i]` is (uint8[height, width, channels], label)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]: ...


@dataclass(frozen=True)
class Source:
    """A data set.

    Attributes:
        name: as the user wrote it.
        fingerprint: differs where name, version or content differ; names the cache.
        class_names: one name a class, in label order.
        image_shape: (height, width, channels); height and width are None where images differ.
        splits: names of the splits.
        open: split or TFDS sub-split → its examples.

    Raises:
        UserError: by `open`, for a split that does not exist.
    """

    name: str
    fingerprint: str
    class_names: tuple[str, ...]
    image_shape: tuple[int | None, int | None, int]
    splits: tuple[str, ...]
    open: Callable[[str], Examples]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def eval_split(self, wanted: str | None = None) -> str:
        """`wanted`, or else `test`, or else `validation`.

        Raises:
            UserError: none is wanted and there is neither.
        """
        for split in (wanted, "test", "validation"):
            if split is not None and (split == wanted or split in self.splits):
                return split
        raise UserError(
            "data.eval_split",
            None,
            f"{self.name} has no test or validation split",
            f"name one of {', '.join(self.splits)}",
        )


class ArrayExamples:
    """Examples that are in memory."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self.images[index], int(self.labels[index])

    def arrays(self) -> dict[str, np.ndarray]:
        """`image`: uint8[examples, height, width, channels]; `label`: int32[examples]."""
        return {"image": self.images, "label": self.labels}


def _from_arrays(name: str, splits: Mapping[str, ArrayExamples], class_names: tuple[str, ...]):
    def open_split(split: str) -> Examples:
        if split not in splits:
            raise UserError("data split", split, f"{name} has {', '.join(splits)}")
        return splits[split]

    first = next(iter(splits.values()))
    fingerprint = hashlib.sha256(first.images.tobytes()).hexdigest()[:12]
    shape = first.images.shape[1:]
    return Source(name, f"{name}-{fingerprint}", class_names, shape, tuple(splits), open_split)


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
    rng = np.random.default_rng(0)
    splits = {
        split: ArrayExamples(
            rng.integers(0, 256, (count, size, size, 3), np.uint8),
            rng.integers(0, 10, count).astype(np.int32),
        )
        for split, count in (("train", 2048), ("test", 512))
    }
    return _from_arrays("synthetic", splits, tuple(str(c) for c in range(10)))


class TfdsExamples:
    """Examples of a TFDS data source."""

    def __init__(self, data_source: Any) -> None:
        self.data_source = data_source

    def __len__(self) -> int:
        return len(self.data_source)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        example = self.data_source[index]
        return example["image"], int(example["label"])


def tfds_source(name: str, data_dir: str | None = None) -> Source:
    """An image classification set of TFDS, read from ArrayRecord files without TensorFlow.

    Args:
        name: TFDS name, with a config where the set has several (`imagenette/320px-v2`).
        data_dir: where it is prepared; None: $TFDS_DATA_DIR or TFDS's default.

    Raises:
        UserError: no such set, no image classification set, or not prepared.
    """
    builder = tfds_builder(name, data_dir)
    if not builder.is_prepared():
        raise UserError(
            "data.name",
            name,
            f"is not prepared in {builder.data_path}",
            f"set data.data_dir or $TFDS_DATA_DIR to where it is, or run "
            f"`python launch.py prepare {name}` (or `tfds build {name} --file_format=array_record`)",
        )
    if not {"image", "label"} <= set(builder.info.features):
        keys = ", ".join(builder.info.features)
        raise UserError("data.name", name, f"is no image classification set: it has {keys}")
    image, label = builder.info.features["image"], builder.info.features["label"]
    if getattr(image, "shape", None) is None or not hasattr(label, "names"):
        raise UserError("data.name", name, "is no image classification set")

    def open_split(split: str) -> Examples:
        try:
            examples = TfdsExamples(builder.as_data_source(split=split))
            len(examples)  # Raises ValueError where a sub-split ends before it begins.
            return examples
        except NotImplementedError as error:
            raise UserError(
                "data.name",
                name,
                f"is stored in {builder.data_path} in a format without random access",
                f"prepare it again: `python launch.py prepare {name}`",
            ) from error
        except (ValueError, KeyError, AssertionError) as error:
            splits = ", ".join(builder.info.splits)
            raise UserError("data split", split, f"{name} has {splits}") from error

    info = (builder.data_path / "dataset_info.json").read_bytes()
    fingerprint = (
        f"{builder.info.full_name.replace('/', '-')}-{hashlib.sha256(info).hexdigest()[:12]}"
    )
    return Source(
        name,
        fingerprint,
        tuple(label.names),
        tuple(image.shape),
        tuple(builder.info.splits),
        open_split,
    )


def tfds_builder(name: str, data_dir: str | None, **options: Any) -> Any:
    """`tfds.builder`, with its errors in one line.

    Raises:
        UserError: TFDS has no such set, or this one needs TensorFlow even to be described.
    """
    # Its advice to install OpenCV is not for this user.
    logging.getLogger("absl").setLevel(logging.ERROR)
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, data_dir=data_dir, **options)
    except tfds.core.registered.DatasetNotFoundError as error:
        known = [*EMBEDDED, *tfds.list_builders(with_community_datasets=False)]
        problem = f"no such data set; allowed: {', '.join(EMBEDDED)} and TFDS names such as cifar10"
        raise UserError("data.name", name, problem, nearest(name.split("/")[0], known)) from error
    except ModuleNotFoundError as error:
        raise needs_tensorflow(name) from error
    except (ValueError, TypeError, AssertionError) as error:
        raise UserError("data.name", name, str(error)) from error


def needs_tensorflow(name: str) -> UserError:
    """The error for a step of TFDS that does not work without TensorFlow."""
    return UserError(
        "data.name",
        name,
        "TFDS needs TensorFlow to prepare this data set (not to read it)",
        "run `pip install 'resnet-jax[prepare]'`, prepare it, and train without TensorFlow",
    )


EMBEDDED = {"digits": digits, "synthetic": synthetic}


def open_source(name: str, data_dir: str | None = None, image_size: int | None = None) -> Source:
    """The source of a name: one of `EMBEDDED`, else a TFDS data set.

    Args:
        name: `digits`, `synthetic`, or a TFDS name.
        data_dir: TFDS directory.
        image_size: size that `synthetic` makes, pixels.

    Raises:
        UserError: no such data set, or it is not prepared.
    """
    if name in EMBEDDED:
        return EMBEDDED[name](image_size=image_size)
    return tfds_source(name, data_dir)
