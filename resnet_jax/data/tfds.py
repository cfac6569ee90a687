"""Data sets of TFDS, read from ArrayRecord files without TensorFlow."""

import hashlib
import logging
from typing import Any

from resnet_jax.data.decoding import EncodedImage, Pixels
from resnet_jax.data.embedded import EMBEDDED
from resnet_jax.data.examples import Examples, Source
from resnet_jax.errors import UserError, nearest


class TfdsExamples:
    """Examples of a TFDS data source that leaves images encoded.

    Args:
        data_source: of `builder.as_data_source`.
        name: of the split, for error messages.
        channels: of the images.
    """

    def __init__(self, data_source: Any, name: str, channels: int) -> None:
        self.data_source, self.name, self.channels = data_source, name, channels

    def __len__(self) -> int:
        return len(self.data_source)

    def __getitem__(self, index: int) -> tuple[Pixels, int]:
        example = self.data_source[index]
        image = EncodedImage(example["image"], f"{self.name}[{index}]", self.channels)
        return image, int(example["label"])


def tfds_source(name: str, data_dir: str | None = None) -> Source:
    """An image classification set of TFDS, read from ArrayRecord files without TensorFlow.

    Args:
        name: TFDS name, with a config where the set has several (`imagenette/320px-v2`).
        data_dir: where it is prepared; None: $TFDS_DATA_DIR or TFDS's default.

    Raises:
        UserError: no such set, no image classification set, or not prepared.
    """
    builder = tfds_builder(name, data_dir)
    import tensorflow_datasets as tfds

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
            data_source = builder.as_data_source(
                split, decoders={"image": tfds.decode.SkipDecoding()}
            )
            examples = TfdsExamples(data_source, f"{name} {split}", image.shape[-1])
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
        problem = f"no such data set; allowed: {', '.join(EMBEDDED)}, folder:PATH, hf:NAME and TFDS names such as cifar10"
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
