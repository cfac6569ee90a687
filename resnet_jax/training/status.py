"""status.json: the state of a run and further facts. This module imports no JAX."""

import datetime
import functools
import importlib.metadata
import platform
from typing import Any

from resnet_jax.run_states import STATES


def make_status(state: str, step: int, total_steps: int, **facts: Any) -> dict[str, Any]:
    """The content of status.json.

    Args:
        state: one of `STATES`.
        step: optimiser steps done.
        total_steps: of the whole run.
        **facts: also `devices`, `error`, the final metrics, …
    """
    assert state in STATES, state
    return {
        "state": state,
        "step": step,
        "total_steps": total_steps,
        "updated": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": _versions(),
        **facts,
    }


@functools.cache
def _versions() -> dict[str, str]:
    packages = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in packages
    }
