"""The numbers of a run that enter its compiled programs as arguments.

Runs that differ in nothing else share one program (`program_key`): it is compiled once, and may
train them together. The learning rates of all steps are one array, so every field of the schedule is
among these numbers.
"""

import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from resnet_jax import random_streams
from resnet_jax.config import FIELDS, Config, flatten, with_fields

# Field → the value that leaves a part out of the program; any other number is an argument of it.
TRACED = {name: field.traced.off for name, field in FIELDS.items() if field.traced is not None}
# The key of the run and its learning rates contain these.
ABSORBED = ("seed", *(name for name, field in FIELDS.items() if field.in_rates))


def is_absent(field: str, value: Any) -> bool:
    """Whether `value` leaves the part that `field` controls out of the program."""
    return not isinstance(value, jax.Array) and value == TRACED[field]


def hyperparameters(config: Config, schedule: optax.Schedule, total_steps: int) -> dict[str, Any]:
    """The numbers of a run.

    Args:
        config: of the run.
        schedule: learning rate by step.
        total_steps: of the run.

    Returns:
        `key`: uint32, data of `random_streams.run_key`; `learning_rates`: float32[total_steps]; and
        a float32 scalar for each field of `TRACED` that is not absent.
    """
    values = flatten(config.to_dict())
    numbers = {
        field: np.float32(values[field]) for field in TRACED if not is_absent(field, values[field])
    }
    rates = jax.vmap(schedule)(jnp.arange(total_steps))
    return {
        "key": np.asarray(jax.random.key_data(random_streams.run_key(config.seed))),
        "learning_rates": np.asarray(rates, np.float32),
        **numbers,
    }


def key_of(numbers: Mapping[str, jax.Array]) -> jax.Array:
    """The key of a run, from its numbers; may be traced."""
    return jax.random.wrap_key_data(numbers["key"])


def with_numbers(config: Config, numbers: Mapping[str, jax.Array]) -> Config:
    """A copy of `config` in which traced numbers stand in their fields."""
    return with_fields(config, {name: numbers[name] for name in TRACED if name in numbers})


def program_key(config: Config) -> str:
    """Equal for two configs if and only if they may share compiled programs."""
    values = flatten(config.to_dict())
    kept = {name: value for name, value in values.items() if name not in ABSORBED}
    for field in TRACED:
        if not is_absent(field, values[field]):
            kept[field] = "traced"
    return json.dumps(kept, sort_keys=True)
