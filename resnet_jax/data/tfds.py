"""Data sets of TFDS, read from ArrayRecord files without TensorFlow."""

import functools
import logging
import os
import re
from pathlib import Path
from typing import Any

from resnet_jax.data import content
from resnet_jax.data.decoding import EncodedImage, Pixels
from resnet_jax.data.embedded import EMBEDDED
from resnet_jax.data.examples import Examples, Part, Source
from resnet_jax.errors import UserError, letters_of, nearest
from resnet_jax.files import check_regular

# Read at a time, for a digest.
_RECORDS = 1024


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
        return image, example["label"]


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
    if getattr(image, "shape", None) is None or not getattr(label, "num_classes", None):
        raise UserError("data.name", name, "is no image classification set")
    image_shape = (*image.shape[:2], image.shape[-1] or 3)
    _refuse_files_elsewhere(name, builder)

    def open_split(split: str) -> Examples:
        try:
            data_source = builder.as_data_source(
                split, decoders={"image": tfds.decode.SkipDecoding()}
            )
            examples = TfdsExamples(data_source, f"{name} {split}", image_shape[-1])
            len(examples)  # Raises ValueError where a sub-split ends before it begins.
            return examples
        except NotImplementedError as error:
            raise UserError(
                "data.name",
                name,
                f"is stored in {builder.data_path} in a format without random access",
                f"run `python launch.py prepare {name} --data_dir=DIR` for a new DIR, and set data.data_dir to it",
            ) from error
        except (ValueError, KeyError, AssertionError) as error:
            raise _unknown_split(split) from error

    def _unknown_split(split: str) -> UserError:
        splits = ", ".join(builder.info.splits)
        return UserError("data split", split, f"{name} has {splits}")

    def instructions(split: str) -> list[Any]:
        try:
            return builder.info.splits[split].file_instructions
        except (ValueError, KeyError, AssertionError) as error:
            raise _unknown_split(split) from error

    def digest(split: str) -> str:
        features = content.of_facts(builder.info.features.to_json())
        return content.of_facts(features, content.of_each(_of_records, instructions(split)))

    def parts(split: str) -> list[Part]:
        return [Part(i.filename, i.skip, i.skip + i.take) for i in instructions(split)]

    return Source(
        name, tuple(label.names), image_shape, tuple(builder.info.splits), open_split, digest, parts
    )


def _refuse_files_elsewhere(name: str, builder: Any) -> None:
    """Raises UserError where dataset_info.json names files outside of the directory of the data set."""
    directory = os.path.normpath(builder.data_path)
    for split in builder.info.splits.values():
        for instruction in split.file_instructions:
            path = os.path.normpath(instruction.filename)
            if not Path(path).is_relative_to(directory):
                raise UserError("data.name", name, f"its dataset_info.json names {path}")


def _of_records(instruction: Any) -> str:
    """Digest of a file, or of those of its records that a sub-split has."""
    if instruction.take == instruction.examples_in_shard:
        return content.of_file(instruction.filename)
    from array_record.python.array_record_module import ArrayRecordReader

    reader = ArrayRecordReader(os.fspath(instruction.filename))
    try:
        start, stop = instruction.skip, instruction.skip + instruction.take
        digests = [
            content.of_bytes(record)
            for first in range(start, stop, _RECORDS)
            for record in reader.read(first, min(first + _RECORDS, stop))
        ]
    finally:
        reader.close()
    return content.of_facts(digests)


def tfds_builder(name: str, data_dir: str | None, **options: Any) -> Any:
    """`tfds.builder`, with its errors in one line.

    Raises:
        UserError: TFDS has no such set, or this one needs TensorFlow even to be described.
    """
    # Its advice to install OpenCV is not for this user.
    logging.getLogger("absl").setLevel(logging.ERROR)
    import tensorflow_datasets as tfds

    try:
        if not re.fullmatch(r"[A-Za-z]\w*(?:[:/].*)?", name):
            raise _no_such_set(name)
        _import_features_of_tfds_alone()
        if data_dir is not None:
            check_regular(os.path.join(data_dir, re.split("[:/]", name)[0]))
        return tfds.builder(name, data_dir=data_dir, **options)
    except tfds.core.registered.DatasetNotFoundError as error:
        raise _no_such_set(name) from error
    except ModuleNotFoundError as error:
        raise needs_tensorflow(name) from error
    except (ValueError, TypeError, AssertionError, OSError) as error:
        raise UserError("data.name", name, str(error)) from error


@functools.cache
def _import_features_of_tfds_alone() -> None:
    """Keep TFDS from importing whatever module the features.json of a data set names.

    A file `evil.py` in the working directory, which came with the data, would run.
    """
    import tensorflow_datasets as tfds

    find_class = tfds.features.FeatureConnector.cls_from_name

    def cls_from_name(name: str) -> Any:
        if not name.startswith("tensorflow_datasets."):
            raise ValueError(f"features.json names {name}, which is not a feature of TFDS")
        return find_class(name)

    tfds.features.FeatureConnector.cls_from_name = cls_from_name


def _no_such_set(name: str) -> UserError:
    import tensorflow_datasets as tfds

    problem = (
        f"no such data set; allowed: {', '.join(EMBEDDED)}, folder:PATH, hf:NAME and TFDS names such as "
        "cifar10"
    )
    if Path(name).is_dir():
        return UserError("data.name", name, problem, f"did you mean 'folder:{name}'?")
    first = re.split("[:/]", name)[0]
    # Too unlike for `nearest`, which would find imagenet_r.
    first = {"imagenet": "imagenet2012", "imagenet1k": "imagenet2012"}.get(letters_of(first), first)
    known = [*EMBEDDED, *tfds.list_builders(with_community_datasets=False)]
    return UserError("data.name", name, problem, nearest(first, known))


def needs_tensorflow(name: str) -> UserError:
    """The error for a step of TFDS that does not work without TensorFlow."""
    return UserError(
        "data.name",
        name,
        "TFDS needs TensorFlow to prepare this data set (not to read it)",
        "run `pip install 'resnet-jax[prepare]'`, prepare it, and train without TensorFlow",
    )
