"""Seconds that fresh processes take: to import, to initialise a network, to do a first step.

    python benchmarks/start_up.py

`imports`: whole processes that import `flax.nnx`, and `resnet_jax.models`, in turn, and `launch.py
--help`. `initialise`: the weights of a network, without the imports. `first_step`: whole processes of
`launch.py train` that end after one step, its evaluation and its checkpoint, with an empty compilation
cache and again with what that left there. Prints one JSON object.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.measuring import summary

ROOT = Path(__file__).parents[1]
INITIALISE = """
import time
import jax
from flax import nnx
from resnet_jax import models
start = time.perf_counter()
model = models.initialise(lambda rngs: models.create({name!r}, scan_blocks=None, rngs=rngs))
jax.block_until_ready(nnx.state(model))
print(time.perf_counter() - start)
"""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--parts", nargs="+", default=list(PARTS), choices=PARTS, help="what to time")
    add("--model", default="resnet110", help="of initialise")
    add("--config", default="configs/digits.py", help="of first_step")
    add("--repeats", type=int, default=5, help="rounds")
    return parser.parse_args()


def python(*words: str, **variables: str) -> tuple[float, str]:
    """Seconds of a Python process in the checkout, and what it printed."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    # It would be preferred to a cache of our own.
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    start = time.perf_counter()
    command = [sys.executable, *words]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return time.perf_counter() - start, done.stdout


def imports(arguments: argparse.Namespace) -> dict[str, Any]:
    python("-c", "import resnet_jax.models")  # Reads the files, which all then find in memory.
    seconds: dict[str, list[float]] = {"flax": [], "models": [], "help": []}
    for _ in range(arguments.repeats):
        seconds["flax"].append(python("-c", "import flax.nnx")[0])
        seconds["models"].append(python("-c", "import resnet_jax.models")[0])
        seconds["help"].append(python("launch.py", "--help")[0])
    pairs = zip(seconds["models"], seconds["flax"], strict=True)
    return _summaries({**seconds, "models_over_flax": [ours - flax for ours, flax in pairs]})


def initialise(arguments: argparse.Namespace) -> dict[str, Any]:
    code = INITIALISE.format(name=arguments.model)
    seconds = [float(python("-c", code)[1]) for _ in range(arguments.repeats)]
    return _summaries({"initialise": seconds})


def first_step(arguments: argparse.Namespace) -> dict[str, Any]:
    words = ["launch.py", "train", f"--config={Path(arguments.config).absolute()}"]
    words += ["--config.train.duration=1 steps", "--config.schedule.warmup=0"]
    seconds: dict[str, list[float]] = {"cold": [], "warm": []}
    for _ in range(arguments.repeats):
        with tempfile.TemporaryDirectory() as directory:
            for state, values in seconds.items():
                workdir = f"--workdir={directory}/{state}"
                values.append(python(*words, workdir, RESNET_JAX_CACHE=f"{directory}/cache")[0])
    return _summaries({f"first_step_{state}": values for state, values in seconds.items()})


def _summaries(seconds: dict[str, Sequence[float]]) -> dict[str, Any]:
    return {f"{name}_seconds": summary(values) for name, values in seconds.items()}


PARTS = {"imports": imports, "initialise": initialise, "first_step": first_step}


def main() -> None:
    arguments = parse_arguments()
    result = dict(vars(arguments))
    for part in arguments.parts:
        result |= PARTS[part](arguments)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
