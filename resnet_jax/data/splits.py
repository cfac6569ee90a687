"""What about two splits is worth a warning: one class only, or examples that are in both."""

from collections.abc import Iterator

import numpy as np

from resnet_jax.data.examples import Examples, Source


def warnings_of(
    source: Source, train_split: str, train: Examples, eval_split: str
) -> Iterator[str]:
    """Warnings about the splits of a run, a line each.

    Args:
        source: of both.
        train_split, eval_split: names.
        train: examples of `train_split`; their classes count where the labels are in memory.
    """
    labels = getattr(train, "labels", None)
    classes = source.num_classes if labels is None else len(np.unique(labels))
    if classes == 1:
        number = 0 if labels is None else int(labels[0])
        name = source.class_names[number]
        yield f"split {train_split!r} of {source.name} has one class, {name}: nothing is learned"
    total = sum(part.stop - part.start for part in source.parts(eval_split))
    common = _common(source, train_split, eval_split)
    if common:
        share = "all examples" if common >= total else f"{common:,} of the {total:,} examples"
        yield (
            f"{share} of the evaluation split {eval_split!r} of {source.name} are in the training "
            f"split {train_split!r} too: the accuracy is not that on new images"
        )


def _common(source: Source, first: str, second: str) -> int:
    """How many examples of `second` are in `first`, where neither has one twice."""
    return sum(
        max(0, min(a.stop, b.stop) - max(a.start, b.start))
        for a in source.parts(first)
        for b in source.parts(second)
        if a.stored == b.stored
    )
