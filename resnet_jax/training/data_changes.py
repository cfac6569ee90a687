"""Whether a run that goes on meets the data that it began with."""

import math
from collections.abc import Mapping
from typing import Any


def data_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """In which facts of data.json two sets of data differ, in words."""
    names = ("train_examples", "eval_examples", "class_names")
    changes = [
        f"{name} was {before[name]}, is {now[name]}" for name in names if before[name] != now[name]
    ]
    # A damaged image may have been repaired, and another decoder rounds otherwise.
    close = all(
        math.isclose(old, new, abs_tol=0.01)
        for name in ("mean", "std")
        for old, new in zip(before[name], now[name], strict=True)
    )
    return changes if changes or close else ["the colours of the training images differ"]
