"""What `load_weights` reports, by error or by return value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from resnet_jax.interop.preprocessing import Preprocessing
from resnet_jax.wording import first_few


class Missing(NamedTuple):
    """An array of ours that the file lacks; `theirs` is empty if its naming has no such part."""

    ours: str
    theirs: str

    def __str__(self) -> str:
        return f"{self.ours} ({self.theirs or 'no such part in this naming'})"


class Mismatch(NamedTuple):
    """An array whose shape differs; both shapes as in torch."""

    ours: str
    theirs: str
    expected_shape: tuple[int, ...]
    found_shape: tuple[int, ...]

    def __str__(self) -> str:
        return (
            f"{self.ours} ({self.theirs}): model {self.expected_shape}, weights {self.found_shape}"
        )


class WeightsError(ValueError):
    """Weights that cannot be read or that do not fit the model.

    The message counts what does not fit and names the first few; the attributes have all.

    Attributes:
        missing: arrays of the model that the weights lack.
        unexpected: names in the weights that the model has no place for.
        misshaped: arrays of other shapes.
    """

    def __init__(
        self,
        message: str,
        missing: Sequence[Missing] = (),
        unexpected: Sequence[str] = (),
        misshaped: Sequence[Mismatch] = (),
    ) -> None:
        self.missing = tuple(missing)
        self.unexpected = tuple(unexpected)
        self.misshaped = tuple(misshaped)
        lists = {"missing": missing, "unexpected": unexpected, "misshaped": misshaped}
        super().__init__("\n".join([message, *_lines(lists)]))


@dataclass(frozen=True)
class LoadReport:
    """What became of the weights.

    Attributes:
        naming: the one recognised, a key of `namings.NAMINGS`.
        entry: of a checkpoint with several state dicts, or with one in a wrapper, the one that was
            taken: `state_dict_ema`, `model.ema`; None: the file or mapping is the state dict itself.
        other_entries: the others, which were not taken.
        preprocessing: of the images that the weights were trained on; None: unknown.
        loaded: our names of the arrays that were set.
        missing, unexpected, misshaped: left out, with `strict=False`.
        skipped: left out by `skip`: our names, and others in the weights.
        other_classes: number of classes in the weights, where the model has another number and its
            classifier stays as it was; else None.
    """

    naming: str
    loaded: tuple[str, ...]
    missing: tuple[Missing, ...] = ()
    unexpected: tuple[str, ...] = ()
    misshaped: tuple[Mismatch, ...] = ()
    skipped: tuple[str, ...] = ()
    other_classes: int | None = None
    entry: str | None = None
    other_entries: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None

    def __str__(self) -> str:
        head = [f"{len(self.loaded)} arrays in {self.naming} naming"]
        if self.entry is not None:
            head.append(f"  entry: {describe_entry(self.entry, self.other_entries)}")
        if self.preprocessing is not None:
            head.append(f"  preprocessing: {self.preprocessing}")
        if self.other_classes is not None:
            head.append(f"  not loaded: the classifier, of {self.other_classes} classes")
        names = ("missing", "unexpected", "misshaped", "skipped")
        return "\n".join([*head, *_lines({name: getattr(self, name) for name in names})])


def describe_entry(entry: str, others: Sequence[str]) -> str:
    """Which entry of a checkpoint was taken, and which others it has."""
    return entry + (f" (not taken: {', '.join(others)})" if others else "")


def _lines(lists: Mapping[str, Sequence[object]]) -> list[str]:
    return [
        f"  {len(items):,} {title}: {first_few(items)}" for title, items in lists.items() if items
    ]
