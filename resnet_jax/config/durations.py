"""Durations, in optimiser steps (`64000`, `"64000 steps"`) or epochs (`"90 epochs"`)."""

import re
from typing import Any

from resnet_jax.config.fields import Duration
from resnet_jax.errors import UserError

# Optimisers count steps in 32 bits.
MOST_STEPS = 2**31 - 1
_DURATION = re.compile(
    r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*(steps?|epochs?)?", re.IGNORECASE
)


def spell_duration(name: str, value: Any) -> tuple[Duration, float]:
    """The one spelling of a duration, and its number.

    Args:
        name: the field, for the error message.
        value: text or a number.

    Raises:
        UserError: the text cannot be read as a duration.
    """
    amount, unit = _amount(name, value)
    if unit == "step" or amount == 0:
        return int(amount), amount
    number = int(amount) if amount.is_integer() else amount
    return f"{number} epoch{'' if number == 1 else 's'}", amount


def _amount(name: str, duration: Any) -> tuple[float, str]:
    match = _DURATION.fullmatch(str(duration).strip())
    if not match:
        raise UserError(name, duration, "is no duration", "write '64000 steps' or '90 epochs'")
    number, unit = float(match[1]), "epoch" if (match[2] or "").lower().startswith("e") else "step"
    if unit == "step" and not number.is_integer():
        raise UserError(name, duration, "must be a whole number of steps")
    return number, unit


def to_steps(name: str, duration: Duration, num_examples: int, batch_size: int) -> float:
    """A duration as optimiser steps, which need not be whole.

    Args:
        name: the field, for the error message.
        duration: steps or epochs.
        num_examples: examples of an epoch.
        batch_size: examples of a step.

    Returns:
        0 for a duration of zero, else at least 1.

    Raises:
        UserError: more than `MOST_STEPS`.
    """
    number, unit = _amount(name, duration)
    if number == 0:
        return 0.0
    steps = max(1.0, number * num_examples / batch_size if unit == "epoch" else number)
    if steps > MOST_STEPS:
        raise UserError(name, duration, f"must be at most {MOST_STEPS:,} steps")
    return steps
