"""What running the blocks of a stage as one loop costs and gains, by depth.

    python benchmarks/scan_blocks.py --depths 20 56 110 1202

For each depth, unrolled and scanned: seconds to trace and to compile the train step, milliseconds a
step, and temporary memory of the compiled step. Each is measured in a process of its own, which is
given up after --limit seconds. Prints a Markdown table, and one JSON object a row as it comes.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

# The value of `scan_blocks`; `auto`: what a config takes by default, for the depth.
LAYOUTS = {"unrolled": False, "scanned": True, "auto": None}
REMAT = ("none", "block", "stage")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--depths", type=int, nargs="+", default=[20, 56, 110, 1202], help="6n+2")
    add("--layouts", nargs="+", default=["unrolled", "scanned"], choices=LAYOUTS, help="of blocks")
    add("--remat", nargs="+", default=["none"], choices=REMAT, help="what is computed again")
    add("--batch_size", type=int, default=32, help="images a step")
    add(
        "--steps",
        type=int,
        default=5,
        help="timed steps, after one more; the median counts; 0: none",
    )
    add("--limit", type=int, default=500, help="seconds for a process")
    add("--one", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(
    depth: int, layout: str, remat: str, batch_size: int, steps: int
) -> dict[str, float | None]:
    """One row: seconds, milliseconds and MiB."""
    from resnet_jax.compiler import turn_off_ynnpack

    turn_off_ynnpack()  # Before JAX starts.
    import jax
    import numpy as np
    import optax

    from resnet_jax import models
    from resnet_jax.training.hyperparameters import Hyperparameters
    from resnet_jax.training.state import initial_state, make_network
    from resnet_jax.training.steps import StepOptions, train_step

    jax.config.update("jax_enable_compilation_cache", False)
    implementation = models.automatic_implementation(jax.default_backend())
    build = partial(
        models.create,
        f"cifar_resnet{depth}",
        scan_blocks=LAYOUTS[layout],
        remat=remat,
        convolution=implementation,
    )
    start = time.perf_counter()
    network = make_network(lambda rngs: build(rngs=rngs))
    optimizer = optax.sgd(0.01, 0.9)
    state = initial_state(network, optimizer, seed=0, with_ema=False)
    initialised = time.perf_counter()
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.standard_normal((batch_size, 32, 32, 3), np.float32),
        "label": rng.integers(0, 10, batch_size, np.int32),
        "mask": np.ones(batch_size, bool),
        "key": jax.random.split(jax.random.key(0), batch_size),
    }
    static = Hyperparameters(), network, lambda numbers: optimizer, StepOptions()
    began = time.perf_counter()
    lowered = (
        jax.jit(lambda state, batch: train_step(state, batch, *static), donate_argnums=0)
        .trace(state, batch)
        .lower()
    )
    traced = time.perf_counter()
    compiled = models.compile_checked(lowered)
    done = time.perf_counter()
    times = []
    for _ in range(steps + 1 if steps else 0):
        before = time.perf_counter()
        state, _ = jax.block_until_ready(compiled(state, batch))
        times.append(1e3 * (time.perf_counter() - before))
    return {
        "initialise_s": round(initialised - start, 2),
        "trace_s": round(traced - began, 2),
        "compile_s": round(done - traced, 2),
        "step_ms": round(statistics.median(times[1:]), 1) if steps else None,
        "temporary_mib": round(compiled.memory_analysis().temp_size_in_bytes / 2**20),
    }


def measure_apart(
    arguments: argparse.Namespace, depth: int, layout: str, remat: str
) -> dict[str, Any]:
    """`measure` in a process of its own; `None`s if it takes longer than the limit."""
    command = [
        sys.executable, __file__, "--one", "--depths", str(depth), "--layouts", layout,
        f"--remat={remat}", f"--batch_size={arguments.batch_size}", f"--steps={arguments.steps}",
    ]  # fmt: skip
    row = {"depth": depth, "layout": layout, "remat": remat}
    try:
        done = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, timeout=arguments.limit
        )
    except subprocess.TimeoutExpired:
        return {**row, "given_up_after_s": arguments.limit}
    return {**row, **json.loads(done.stdout)}


def main() -> None:
    arguments = parse_arguments()
    if arguments.one:
        (depth,), (layout,), (remat,) = arguments.depths, arguments.layouts, arguments.remat
        print(json.dumps(measure(depth, layout, remat, arguments.batch_size, arguments.steps)))
        return
    rows = []
    for choice in product(arguments.depths, arguments.layouts, arguments.remat):
        rows.append(measure_apart(arguments, *choice))
        print(json.dumps(rows[-1]), flush=True)
    columns = (
        "depth",
        "layout",
        "remat",
        "initialise_s",
        "trace_s",
        "compile_s",
        "step_ms",
        "temporary_mib",
    )
    print("\n| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for row in rows:
        print("| " + " | ".join(str(row.get(name, "-")) for name in columns) + " |")


if __name__ == "__main__":
    main()
