"""What saving costs the training loop: steps with a save before them over the same steps without.

    python benchmarks/save_overhead.py

The loop of ResNet-50 at 64 pixels, where a save weighs more than at 224. Each part ends when the save
has, so what that takes from the steps beside it counts too, and `share` is all of it over the time
of --every steps. Both are measured in turn in one process. Prints one JSON object.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from resnet_jax.compiler import turn_off_ynnpack

turn_off_ynnpack()  # Before JAX starts.

import jax

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.loop_overhead import begun_loop
from benchmarks.measuring import summary
from resnet_jax.config import default_config, override
from resnet_jax.training.loop import Loop


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--family", default="imagenet", help="of the network")
    add("--depth", type=int, default=50, help="of the network")
    add("--image_size", type=int, default=64, help="height and width in pixels")
    add("--batch_size", type=int, default=16, help="images a step")
    add("--steps", type=int, default=3, help="steps a part")
    add("--every", type=int, default=100, help="steps from save to save, for the share")
    add("--repeats", type=int, default=5, help="rounds, with and without a save in turn")
    return parser.parse_args()


def seconds(function: Callable[[], None]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def advance(loop: Loop, steps: int) -> None:
    for _ in range(steps):
        loop.advance()
    jax.block_until_ready(loop.state)


def main() -> None:
    arguments = parse_arguments()
    steps = arguments.steps
    endless = dict.fromkeys(("train.duration", "log.every", "evaluate.every"), 10**6)
    fields = endless | {
        "model.family": arguments.family,
        "model.depth": arguments.depth,
        "data.name": "synthetic",
        "data.image_size": arguments.image_size,
        "train.batch_size": arguments.batch_size,
        "schedule.warmup": 0,
        "checkpoint.every": steps,
        "checkpoint.keep_last": 1,
    }
    without, blocked, extra = [], [], []
    with begun_loop(override(default_config(), fields)) as loop:
        for _ in range(arguments.repeats + 1):
            without.append(seconds(lambda: advance(loop, steps)))
            blocked.append(seconds(loop.log_and_evaluate_and_save))
            rest = seconds(lambda: advance(loop, steps)) + seconds(loop.wait)
            extra.append(blocked[-1] + rest - without[-1])
    # The first round compiles.
    step = statistics.median(without[1:]) / steps
    result = {
        **vars(arguments),
        "milliseconds_a_step": round(1000 * step, 2),
        "milliseconds_blocked": summary([1000 * value for value in blocked[1:]]),
        "milliseconds_in_all": summary([1000 * value for value in extra[1:]]),
        "share": summary([value / (arguments.every * step) for value in extra[1:]]),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
