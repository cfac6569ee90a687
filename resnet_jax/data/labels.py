"""Labels: integers from 0 to classes - 1, or the split is refused. Every source is checked here."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from resnet_jax.data.decoding import DamagedImageError, Pixels
from resnet_jax.data.examples import Examples, NoLabelsError
from resnet_jax.errors import UserError

# Examples, evenly spaced, that are looked at where a split opens and cannot be read as a whole.
PROBED = 32


@dataclass(frozen=True)
class LabelRange:
    """The labels that a split may have.

    Attributes:
        source, split: names, for error messages.
        class_names: one name a class.
    """

    source: str
    split: str
    class_names: tuple[str, ...]

    def check(self, labels: Sequence[Any] | np.ndarray, indices: Iterable[int]) -> None:
        """Refuse labels that are not integers from 0 to classes - 1.

        Args:
            labels: of some examples or all.
            indices: which examples these are.

        Raises:
            NoLabelsError: each label is missing: None, NaN or negative.
            UserError: a label is not such an integer; names the first.
        """
        classes = len(self.class_names)
        if isinstance(labels, np.ndarray) and labels.dtype.kind in "iu":
            wrong = np.flatnonzero((labels < 0) | (labels >= classes)).tolist()
        else:
            wrong = [i for i, label in enumerate(labels) if not _is_label(label, classes)]
        if not wrong:
            return
        first = list(indices)[wrong[0]]
        label = labels[wrong[0]]
        if len(wrong) == len(labels) and all(_is_missing(labels[i]) for i in wrong):
            problem = f"of {self.source} has no labels (the label of example {first} is {label})"
            raise NoLabelsError("data split", self.split, problem, "choose a split with labels")
        raise self.wrong(first, label)

    def wrong(self, index: int, label: Any) -> UserError:
        """The error for the label of one example."""
        allowed = f"labels are integers from 0 to {len(self.class_names) - 1}, one for each class"
        problem = f"example {index} of {self.source} has the label {label}; {allowed}"
        return UserError("data split", self.split, problem, "correct it, or choose another split")


def _is_label(label: Any, classes: int) -> bool:
    integer = isinstance(label, int | np.integer) and not isinstance(label, bool)
    return integer and 0 <= label < classes


def _is_missing(label: Any) -> bool:
    if label is None:
        return True
    number = isinstance(label, int | float | np.integer | np.floating)
    # Not `< 0`, as NaN is missing too.
    return number and not label >= 0


class CheckedExamples:
    """Examples whose labels are checked as they are read.

    Args:
        examples: a split.
        labels: that it may have.

    Raises:
        UserError: here for examples that are evenly spaced over the split, by `[index]` for that one.
    """

    def __init__(self, examples: Examples, labels: LabelRange) -> None:
        self.examples, self.range = examples, labels
        found = {}
        for index in evenly_spaced(len(examples), PROBED):
            try:
                found[index] = examples[index][1]
            except DamagedImageError:
                continue
        self.range.check(list(found.values()), found)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> tuple[Pixels, int]:
        image, label = self.examples[index]
        if not _is_label(label, len(self.range.class_names)):
            raise self.range.wrong(index, label)
        return image, int(label)


def checked(examples: Examples, labels: LabelRange) -> Examples:
    """The same examples; labels that are in memory are checked now, others as they are read.

    Raises:
        UserError: a label is not an integer from 0 to classes - 1, or there are none.
    """
    in_memory = getattr(examples, "labels", None)
    if in_memory is None:
        return CheckedExamples(examples, labels)
    labels.check(in_memory, range(len(in_memory)))
    return examples


def evenly_spaced(count: int, most: int) -> list[int]:
    """At most `most` of the numbers 0 to count - 1, evenly spaced."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()
