"""What this machine could do at best: the rate of a large product, and of a copy.

    python benchmarks/floor.py --model=resnet50 --batch_size=16 --image_size=224

The rate is the fastest of NumPy, JAX and torch (where it is installed) for two square matrices; the
copy has a thread a core. With a model also the seconds that the multiply-adds of a train step take at
that rate: forward pass, gradients of images and gradients of kernels, a pass each. Prints one JSON object.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from resnet_jax.compiler import turn_off_ynnpack

turn_off_ynnpack()  # Before JAX starts.

import jax
import numpy as np
from flax import nnx

from benchmarks.measuring import machine, summary
from resnet_jax import models

try:
    import torch
except ImportError:
    torch = None

PASSES = 3  # Of a train step, each with the multiply-adds of a forward pass.


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--model", choices=models.ZOO, help="name of the network")
    add("--batch_size", type=int, default=128, help="images a step")
    add("--image_size", type=int, default=32, help="height and width in pixels")
    add("--dtype", default="float32", choices=("float32", "bfloat16"), help="of the product")
    add("--size", type=int, default=2048, help="rows and columns of the matrices")
    add("--mib", type=int, default=256, help="MiB that are copied")
    add("--repeats", type=int, default=7, help="rounds, all in turn")
    return parser.parse_args()


def products(size: int, dtype: str) -> dict[str, Callable[[], Any]]:
    """The product of two matrices by each library that has the type."""
    left, right = np.random.default_rng(0).standard_normal((2, size, size), np.float32)
    ways: dict[str, Callable[[], Any]] = {}
    if dtype == "float32":
        ways["numpy"] = lambda: left @ right
    compiled = jax.jit(lambda a, b: a @ b)
    ours = [jax.numpy.asarray(a, dtype) for a in (left, right)]
    ways["jax"] = lambda: jax.block_until_ready(compiled(*ours))
    if torch is not None:
        torch.set_num_threads(os.cpu_count() or 1)
        theirs = [torch.from_numpy(a).to(getattr(torch, dtype)) for a in (left, right)]
        ways["torch"] = lambda: theirs[0] @ theirs[1]
    return ways


def copy(mib: int) -> Callable[[], Any]:
    """Copies this number of MiB, with a thread a core."""
    threads = os.cpu_count() or 1
    pool = ThreadPoolExecutor(threads)
    source = np.ones((threads, mib * 2**20 // threads), np.uint8)
    target = np.zeros_like(source)
    return lambda: list(pool.map(np.copyto, target, source))


def seconds(way: Callable[[], Any]) -> float:
    start = time.perf_counter()
    way()
    return time.perf_counter() - start


def main() -> None:
    arguments = parse_arguments()
    ways = products(arguments.size, arguments.dtype) | {"copy": copy(arguments.mib)}
    # The first round, in which memory is new and programs are compiled, does not count.
    rounds = [
        {name: seconds(way) for name, way in ways.items()} for _ in range(arguments.repeats + 1)
    ]
    giga = dict.fromkeys(ways, 2 * arguments.size**3 / 1e9)
    giga["copy"] = 2 * arguments.mib * 2**20 / 1e9  # Read and written.
    rates = {name: summary([giga[name] / times[name] for times in rounds[1:]]) for name in ways}
    copied = rates.pop("copy")
    fastest = max(rates, key=lambda name: rates[name]["median"])
    result = {
        **vars(arguments),
        "machine": machine(),
        "gflop_per_second": rates,
        "fastest_gflop_per_second": rates[fastest],
        "copied_gb_per_second": copied,
    }
    if arguments.model:
        model = nnx.eval_shape(lambda: models.create(arguments.model, rngs=nnx.Rngs(0)))
        macs = models.count_macs(model, (arguments.image_size, arguments.image_size, 3))
        operations = 2 * PASSES * arguments.batch_size * macs
        least = operations / 1e9 / rates[fastest]["median"]
        result |= {
            "gflop_a_step": round(operations / 1e9, 3),
            "seconds_a_step": float(f"{least:.4g}"),
            "images_per_second": float(f"{arguments.batch_size / least:.4g}"),
        }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
