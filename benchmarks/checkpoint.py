"""What checksums and fsync cost a save and a restore, for states as of ResNet-20 and ResNet-50.

    python benchmarks/checkpoint.py

The parts are timed in turn in one process: `save` until the loop goes on, `write` until the files are
complete, `restore` with its comparison, `checksums` alone, which save and restore contain once
each, and `flush`, the part of `write` that forces the files to the disk. Prints one JSON object; times are medians in milliseconds, shares their median and range.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from resnet_jax.compiler import turn_off_ynnpack

turn_off_ynnpack()  # Before JAX starts.

import jax

sys.path.insert(0, str(Path(__file__).parents[1]))

from resnet_jax import files
from resnet_jax.config import default_config, override
from resnet_jax.random_streams import run_key
from resnet_jax.training import checkpoint
from resnet_jax.training.checkpoint import Checkpoints
from resnet_jax.training.experiment import make_experiment
from resnet_jax.training.integrity import checksums
from resnet_jax.training.programs import Programs
from resnet_jax.training.state import TrainState

STATES = {
    "resnet20": {"model.family": "cifar", "model.depth": 20},
    "resnet50": {"model.family": "imagenet", "model.depth": 50, "data.image_size": 64},
}


def seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def time_flushes() -> list[float]:
    """A list to which each call that forces files to the disk from here on adds its seconds."""
    spent: list[float] = []
    for name in ("flush", "flush_tree"):
        function = getattr(files, name)
        setattr(checkpoint, name, lambda path, f=function: spent.append(seconds(lambda: f(path))))
    return spent


def measure(fields: dict[str, Any], repeats: int) -> dict[str, Any]:
    fields = fields | {"data.name": "synthetic", "train.ema_decay": 0.9}
    experiment = make_experiment(override(default_config(), fields))
    state: TrainState = Programs(experiment).initialise(run_key(0))
    parts: dict[str, list[float]] = {
        n: [] for n in ("checksums", "save", "write", "flush", "restore")
    }
    flushes = time_flushes()
    first = seconds(lambda: checksums(state))
    with tempfile.TemporaryDirectory() as directory, Checkpoints(Path(directory), {}) as kept:
        for step in range(repeats + 1):
            flushes.clear()
            times = {
                "checksums": seconds(lambda: checksums(state)),
                "save": seconds(lambda s=step: kept.save(s, state, {})),
                "write": seconds(kept.wait),
                "flush": sum(flushes),
                "restore": seconds(lambda s=step: kept.restore(s, experiment.state_shapes())),
            }
            # The first round compiles.
            for name, value in times.items() if step else ():
                parts[name].append(value)
    arrays = jax.tree.leaves(state)
    result: dict[str, Any] = {
        "arrays": len(arrays),
        "megabytes": round(sum(array.nbytes for array in arrays) / 1e6, 1),
        "first_checksums_milliseconds": round(1000 * first),
    }
    for name, values in parts.items():
        result[f"{name}_milliseconds"] = round(1000 * statistics.median(values), 1)
    wholes = {
        "save": parts["save"],
        "save_and_write": [sum(pair) for pair in zip(parts["save"], parts["write"], strict=True)],
        "restore": parts["restore"],
    }
    for name, values in wholes.items():
        shares = [c / value for c, value in zip(parts["checksums"], values, strict=True)]
        result[f"checksums_share_of_{name}"] = {
            "median": round(statistics.median(shares), 3),
            "min": round(min(shares), 3),
            "max": round(max(shares), 3),
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7, help="rounds after the first")
    repeats = parser.parse_args().repeats
    result = {name: measure(fields, repeats) for name, fields in STATES.items()}
    device = jax.devices()[0].device_kind
    print(json.dumps({"device": device, "repeats": repeats, **result}, indent=2))


if __name__ == "__main__":
    main()
