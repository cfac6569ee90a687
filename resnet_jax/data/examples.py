"""What a source is: the facts of a data set, and random access to its examples."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from resnet_jax.data.decoding import Pixels
from resnet_jax.errors import UserError, warn


class Examples(Protocol):
    """Random access to one split: `examples[i]` is (image, label).

    An image is uint8[height, width, channels], or encoded where files are; `pixels` decodes it. Where
    all labels are in memory they are also the attribute `labels`, int32[examples].

    Raises:
        DamagedImageError: by `examples[i]`, where it can be no image.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Pixels, int]: ...


class NoLabelsError(UserError):
    """A split without labels."""


class Part(NamedTuple):
    """Examples `start` to `stop` - 1 of something that is stored: a file, or a split by name."""

    stored: str
    start: int
    stop: int


def _whole(split: str) -> list[Part]:
    return [Part(split, 0, 1)]


@dataclass(frozen=True)
class Source:
    """A data set.

    Attributes:
        name: as the user wrote it.
        class_names: one name a class, in label order.
        image_shape: (height, width, channels); height and width are None where the set does not say.
        splits: names of the splits.
        open: split, or sub-split where TFDS knows it, → its examples.
        content: split → a digest of the bytes that its examples are made from, labels included.
        parts: split → what it consists of, for sources that know sub-splits.

    Raises:
        UserError: by `open`, `content` and `parts`, for a split that does not exist; by `open`, for
            labels that are not integers from 0 to classes - 1.
        NoLabelsError: by `open`, where a split has none.
    """

    name: str
    class_names: tuple[str, ...]
    image_shape: tuple[int | None, int | None, int]
    splits: tuple[str, ...]
    open: Callable[[str], Examples]
    content: Callable[[str], str]
    parts: Callable[[str], list[Part]] = _whole

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def eval_split(self, wanted: str | None = None) -> str:
        """`wanted`, or else the first of `test`, `validation` and `val` that has labels.

        Raises:
            UserError: none is wanted and there is none.
        """
        if wanted is not None:
            return wanted
        unlabelled = None
        for split in ("test", "validation", "val"):
            if split not in self.splits:
                continue
            try:
                self.open(split)
            except NoLabelsError as error:
                unlabelled = error
                continue
            if unlabelled is not None:
                skipped = unlabelled.value
                warn(f"split {skipped!r} of {self.name} has no labels; {split!r} is evaluated")
            return split
        if unlabelled is not None:
            raise unlabelled
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
