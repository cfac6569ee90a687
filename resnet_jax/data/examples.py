"""What a source is: the facts of a data set, and random access to its examples."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from resnet_jax.data.decoding import Pixels
from resnet_jax.errors import UserError


class Examples(Protocol):
    """Random access to one split: `examples[i]` is (image, label).

    An image is uint8[height, width, channels], or encoded where files are; `pixels` decodes it.

    Raises:
        DamagedImageError: by `examples[i]`, where it can be no image.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Pixels, int]: ...


@dataclass(frozen=True)
class Source:
    """A data set.

    Attributes:
        name: as the user wrote it.
        fingerprint: differs where name, version or content differ; names the cache.
        class_names: one name a class, in label order.
        image_shape: (height, width, channels); height and width are None where images differ.
        splits: names of the splits.
        open: split, or sub-split where TFDS knows it, → its examples.

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
        """`wanted`, or else `test`, `validation` or `val`.

        Raises:
            UserError: none is wanted and there is neither.
        """
        for split in (wanted, "test", "validation", "val"):
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
