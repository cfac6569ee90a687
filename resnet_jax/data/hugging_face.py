"""Image classification sets of Hugging Face `datasets`, of the hub or saved to disk."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from resnet_jax.data import content
from resnet_jax.data.decoding import LARGEST_FILE, DamagedImageError, EncodedImage, Pixels
from resnet_jax.data.examples import Source
from resnet_jax.data.folder import resolve
from resnet_jax.data.labels import LabelRange
from resnet_jax.errors import UserError
from resnet_jax.files import check_regular, read_file

# Read at a time, for a digest.
_ROWS = 1024


class HuggingFaceExamples:
    """The rows of one split.

    Args:
        rows: of the split, images left encoded.
        name: of the split, for error messages.
        image: name of the column.
        labels: int32[examples].
    """

    def __init__(self, rows: Any, name: str, image: str, labels: np.ndarray) -> None:
        self.rows, self.name, self.image, self.labels = rows, name, image, labels

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Pixels, int]:
        name = f"{self.name}[{index}]"
        file = _image_file(self.rows[index][self.image], name)
        return EncodedImage(file, name), int(self.labels[index])


def _image_file(image: Mapping[str, Any] | None, name: str) -> bytes:
    if image is None:
        raise DamagedImageError(name, "is missing")
    if image["bytes"] is not None:
        return image["bytes"]
    try:
        return read_file(image["path"], LARGEST_FILE)
    except OSError as error:
        problem = error.strerror or str(error)
        raise DamagedImageError(f"{name} ({image['path']})", problem) from error


def hugging_face_source(name: str, data_dir: str | None = None) -> Source:
    """A set with one column of images and one of class labels.

    The classes are those of `train`, or of the first split where there is no `train`. The numbers of
    other splits may stand for other names: their labels are matched by name.

    Args:
        name: a directory that `save_to_disk` wrote, else a name of the hub, which is downloaded once.
        data_dir: where a relative directory begins; None: the working directory.

    Raises:
        UserError: `datasets` is not installed, there is no such set, or no such columns.
    """
    full_name = f"hf:{name}"
    splits = _load(full_name, name, data_dir)
    train = splits.get("train", next(iter(splits.values())))
    _column(full_name, train, "Image")
    class_names = tuple(train.features[_column(full_name, train, "ClassLabel")].names)

    def open_split(split: str) -> HuggingFaceExamples:
        from datasets import Image

        if split not in splits:
            raise UserError("data split", split, f"{full_name} has {', '.join(splits)}")
        rows = splits[split]
        image, label = (_column(full_name, rows, kind) for kind in ("Image", "ClassLabel"))
        labels = _labels(rows, label, LabelRange(full_name, split, class_names))
        encoded = rows.select_columns([image]).cast_column(image, Image(decode=False))
        return HuggingFaceExamples(encoded, f"{full_name} {split}", image, labels)

    def digest(split: str) -> str:
        examples = open_split(split)
        # One by one, a million rows take minutes.
        batches = (
            examples.rows[start : start + _ROWS][examples.image]
            for start in range(0, len(examples), _ROWS)
        )
        images = [content.of_each(_of_image, batch) for batch in batches]
        return content.of_facts(images, content.of_array(examples.labels))

    return Source(full_name, class_names, (None, None, 3), tuple(splits), open_split, digest)


def _of_image(image: Mapping[str, Any] | None) -> str:
    try:
        return content.of_bytes(_image_file(image, ""))
    except DamagedImageError as error:
        return error.problem


def _labels(rows: Any, column: str, classes: LabelRange) -> np.ndarray:
    """int32[examples], numbered as `classes`.

    Raises:
        UserError: a label is missing or has no name, or the name is not among the classes.
    """
    # All at once: one by one, a million of them takes minutes.
    stored = rows.select_columns([column]).with_format("arrow")[:][column]
    labels = stored.to_pylist() if stored.null_count else stored.to_numpy()
    names = tuple(rows.features[column].names)
    replace(classes, class_names=names).check(labels, range(len(rows)))
    numbers = {name: number for number, name in enumerate(classes.class_names)}
    used = np.unique(labels)
    unknown = [names[label] for label in used if names[label] not in numbers]
    if unknown:
        problem = f"of {classes.source} has classes that train does not have: {', '.join(unknown)}"
        raise UserError("data split", classes.split, problem, "give them the names of train")
    renumbered = np.array([numbers.get(name, -1) for name in names], np.int32)
    return renumbered[labels]


def _load(full_name: str, name: str, data_dir: str | None) -> dict[str, Any]:
    try:
        import datasets
    except ImportError as error:
        fix = "run `pip install 'resnet-jax[hf]'`"
        raise UserError("data.name", full_name, "needs Hugging Face datasets", fix) from error
    directory = resolve(name, data_dir)
    try:
        if directory.is_dir():
            check_regular(directory)
            loaded = datasets.load_from_disk(directory)
        else:
            loaded = datasets.load_dataset(name)
    # Its errors are of many kinds, and a directory, a name or a network is behind each.
    except Exception as error:
        problem = f"cannot be loaded ({type(error).__name__}: {str(error)[:300]})"
        fix = "give the name of a set on the hub, or a directory that save_to_disk wrote"
        raise UserError("data.name", full_name, problem, fix) from error
    return {"train": loaded} if isinstance(loaded, datasets.Dataset) else dict(loaded)


def _column(full_name: str, rows: Any, kind: str) -> str:
    found = [name for name, feature in rows.features.items() if type(feature).__name__ == kind]
    if len(found) != 1:
        problem = f"has {len(found)} columns of {kind} and needs one; it has {dict(rows.features)}"
        raise UserError("data.name", full_name, problem)
    return found[0]
