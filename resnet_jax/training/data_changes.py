"""Whether a run meets the data that it was trained on."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from resnet_jax.errors import UserError

NAMED = 3


def data_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Differences between two versions of data.json that a resumed run must not have, in words.

    Args:
        before: as the run wrote it.
        now: of the data as they are.
    """
    names = ("train_examples", "eval_examples")
    changes = [
        f"{name} was {before[name]}, is {now[name]}" for name in names if before[name] != now[name]
    ]
    if "measured" in before and any(before[name] != now[name] for name in ("mean", "std")):
        changes.append(f"images were normalised by {before['mean']} and {before['std']}")
    if classes := class_changes(before["class_names"], now["class_names"]):
        changes.append(classes)
    # A corrupt image may have been repaired, and another decoder rounds differently.
    pairs = zip(_colours(before), _colours(now), strict=False)
    close = len(_colours(before)) == len(_colours(now)) and all(
        math.isclose(old, new, abs_tol=0.01) for old, new in pairs
    )
    return changes if changes or close else ["the colours of the training images differ"]


def _colours(facts: Mapping[str, Any]) -> list[float]:
    """Mean and standard deviation of the training images, which need not be those of the inputs."""
    measured = facts.get("measured") or facts
    return [*measured["mean"], *measured["std"]]


def class_changes(before: Sequence[str], now: Sequence[str]) -> str:
    """How two lists of class names, in the order of their labels, differ; empty where they do not."""
    gone = [name for name in before if name not in set(now)]
    new = [name for name in now if name not in set(before)]
    parts = []
    if gone:
        parts.append(f"{_first(gone)} {'is' if len(gone) == 1 else 'are'} not there")
    if new:
        parts.append(f"{_first(new)} {'is' if len(new) == 1 else 'are'} new")
    if not parts and list(before) != list(now):
        moved = [f"{old!r} was {label}" for label, old in enumerate(before) if now[label] != old]
        parts.append(f"the labels differ: {', '.join(moved[:NAMED])}")
    return f"classes: {', '.join(parts)}" if parts else ""


def _first(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:NAMED]))
    more = len(names) - NAMED
    return f"{shown} and {more} more" if more > 0 else shown


def refuse_other_classes(name: str, before: Sequence[str], now: Sequence[str]) -> None:
    """Refuse data whose labels mean something else than those that a network was trained on.

    Args:
        name: of the data set as it is.
        before, now: class names in the order of their labels, of the training and of the data.

    Raises:
        UserError: names the classes that differ.
    """
    if changes := class_changes(before, now):
        raise UserError(
            "data.name",
            name,
            f"does not have the classes that the network was trained on: {changes}",
            "give the data that it was trained on, or data with the same classes (data.data_dir)",
        )
