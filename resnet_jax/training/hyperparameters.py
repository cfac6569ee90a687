"""The numbers of a run that enter its compiled programs as arguments.

Runs that differ in nothing else share one program (`program_key`): it is compiled once, and may
train them together. The learning rates of all steps are one array, so every field of the schedule is
among these numbers.
"""

import json
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from resnet_jax import random_streams
from resnet_jax.config import FIELDS, Config, flatten

# Field → the value that leaves a part out of the program; any other number is an argument of it.
TRACED = {name: field.traced.off for name, field in FIELDS.items() if field.traced is not None}
# The key of the run and its learning rates contain these.
ABSORBED = ("seed", *(name for name, field in FIELDS.items() if field.in_rates))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Hyperparameters:
    """The numbers of a run: NumPy arrays, arrays on devices, or traced.

    Attributes:
        key_data: uint32, data of `random_streams.run_key`.
        learning_rates: float32[total_steps].
        scalars: field of `TRACED` → float32 scalar; without those whose part is not in the program.
    """

    key_data: Any = None
    learning_rates: Any = None
    scalars: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> jax.Array:
        """The key of the run."""
        return jax.random.wrap_key_data(self.key_data)

    def learning_rate(self, step: jax.Array) -> jax.Array:
        """The learning rate of a step."""
        return jnp.asarray(self.learning_rates)[step]

    def __getitem__(self, name: str) -> Any:
        """The value of a field that is always in the program."""
        return self.scalars[name]

    def get(self, name: str, absent: Any = None) -> Any:
        """The value of a field, or `absent` where its part is not in the program.

        Raises:
            KeyError: the field is not traced.
        """
        if name not in TRACED:
            raise KeyError(name)
        return self.scalars.get(name, absent)


def hyperparameters(config: Config, schedule: optax.Schedule, total_steps: int) -> Hyperparameters:
    """The numbers of a run, on the host.

    Args:
        config: of the run.
        schedule: learning rate by step.
        total_steps: of the run.
    """
    rates = jax.vmap(schedule)(jnp.arange(total_steps))
    return Hyperparameters(
        key_data=np.asarray(jax.random.key_data(random_streams.run_key(config.seed))),
        learning_rates=np.asarray(rates, np.float32),
        scalars=_scalars(config),
    )


def _scalars(config: Config) -> dict[str, np.float32]:
    values = flatten(config.to_dict())
    present = [name for name, off in TRACED.items() if values[name] != off]
    return {name: np.float32(values[name]) for name in present}


def program_key(config: Config) -> str:
    """Equal for two configs if and only if they may share compiled programs."""
    values = flatten(config.to_dict())
    kept = {name: value for name, value in values.items() if name not in ABSORBED}
    kept |= dict.fromkeys(_scalars(config), "traced")
    return json.dumps(kept, sort_keys=True)
