"""Which checkpoints are kept."""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Evaluations = Mapping[int, Mapping[str, Any]]


def most_accurate(steps: Sequence[int], number: int, evaluations: Evaluations) -> list[int]:
    """The best of the steps that were evaluated, best first; of equal ones the later."""
    scored = [(evaluations[step]["accuracy"], step) for step in steps if step in evaluations]
    return [step for _, step in heapq.nlargest(number, scored)]


@dataclass
class Kept:
    """Orbax's policy that keeps the newest and the most accurate checkpoints.

    Attributes:
        newest: so many of the newest.
        best: so many of the most accurate.
        evaluations: step → result with `accuracy`.
        readable: a checkpoint of this process was read back; before that, all are kept.
    """

    newest: int
    best: int
    evaluations: Evaluations
    readable: bool = False

    def of(self, steps: Sequence[int]) -> set[int]:
        """Those of the steps that are kept once a checkpoint was read back."""
        newest = heapq.nlargest(self.newest, steps)
        return {*newest, *most_accurate(steps, self.best, self.evaluations)}

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        del context
        steps = [checkpoint.step for checkpoint in checkpoints]
        kept = self.of(steps)
        return [not self.readable or step in kept for step in steps]
