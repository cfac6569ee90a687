"""Image classification sets of Hugging Face `datasets`, of the hub or saved to disk."""

import hashlib
from typing import Any

import numpy as np

from resnet_jax.data.decoding import DamagedImageError, EncodedImage, Pixels
from resnet_jax.data.examples import Examples, Source
from resnet_jax.data.folder import resolve
from resnet_jax.errors import UserError


class HuggingFaceExamples:
    """The rows of one split.

    Args:
        rows: of the split, images left encoded.
        name: of the split, for error messages.
        image, label: names of the columns.
    """

    def __init__(self, rows: Any, name: str, image: str, label: str) -> None:
        self.rows, self.name, self.image, self.label = rows, name, image, label

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Pixels, int]:
        row = self.rows[index]
        name, image = f"{self.name}[{index}]", row[self.image]
        if image is None:
            raise DamagedImageError(name, "is missing")
        content, path = image["bytes"], image["path"]
        if content is None:
            try:
                with open(path, "rb") as file:
                    content = file.read()
            except OSError as error:
                raise DamagedImageError(f"{name} ({path})", error.strerror or str(error)) from error
        return EncodedImage(content, name), row[self.label]


def hugging_face_source(name: str, data_dir: str | None = None) -> Source:
    """A set with one column of images and one of class labels.

    Args:
        name: a directory that `save_to_disk` wrote, else a name of the hub, which is downloaded once.
        data_dir: where a relative directory begins; None: the working directory.

    Raises:
        UserError: `datasets` is not installed, there is no such set, or no such columns.
    """
    full_name = f"hf:{name}"
    splits = _load(full_name, name, data_dir)
    first = next(iter(splits.values()))
    image, label = (_column(full_name, first, kind) for kind in ("Image", "ClassLabel"))
    prints = " ".join(f"{split} {rows._fingerprint}" for split, rows in splits.items())

    def open_split(split: str) -> Examples:
        from datasets import Image

        if split not in splits:
            raise UserError("data split", split, f"{full_name} has {', '.join(splits)}")
        rows = splits[split].select_columns([image, label]).cast_column(image, Image(decode=False))
        # All at once: one by one, a million of them takes minutes.
        labels = rows.select_columns([label]).with_format("numpy")[:][label]
        # Not `< 0`, as one that is missing is NaN.
        if not np.all(np.asarray(labels, np.float64) >= 0):
            raise UserError("data split", split, f"of {full_name} has examples without a label")
        return HuggingFaceExamples(rows, f"{full_name} {split}", image, label)

    return Source(
        full_name,
        f"hf-{name.strip('/').split('/')[-1]}-{hashlib.sha256(prints.encode()).hexdigest()[:12]}",
        tuple(first.features[label].names),
        (None, None, 3),
        tuple(splits),
        open_split,
    )


def _load(full_name: str, name: str, data_dir: str | None) -> dict[str, Any]:
    try:
        import datasets
    except ImportError as error:
        fix = "run `pip install 'resnet-jax[hf]'`"
        raise UserError("data.name", full_name, "needs Hugging Face datasets", fix) from error
    directory = resolve(name, data_dir)
    try:
        if directory.is_dir():
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
