"""Wall time of the training loop over the sum of its compiled step times, data on the device.

    python benchmarks/loop_overhead.py --config=configs/digits.py --depth=20

Both are measured in turn in one process. Prints one JSON object.
"""

import argparse
import io
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resnet_jax.compiler import turn_off_ynnpack
from resnet_jax.config import Config

turn_off_ynnpack()  # Before JAX starts.

import jax
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.measuring import summary
from resnet_jax.config import load_config, override
from resnet_jax.random_streams import run_key
from resnet_jax.training.experiment import make_experiment
from resnet_jax.training.hosts import Agreement
from resnet_jax.training.interruption import StopRequest
from resnet_jax.training.loop import Loop
from resnet_jax.training.programs import Programs
from resnet_jax.training.progress import Reporter
from resnet_jax.training.record import Record
from resnet_jax.training.run_directory import RunDirectory


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--config", default="configs/digits.py", help="what to train")
    parser.add_argument("--depth", type=int, help="instead of the network's own")
    parser.add_argument("--steps", type=int, default=40, help="steps a round")
    parser.add_argument(
        "--repeats", type=int, default=7, help="rounds, loop and bare steps in turn"
    )
    return parser.parse_args()


@contextmanager
def begun_loop(config: Config) -> Iterator[Loop]:
    """A training loop before its first step, silent, in a directory that is deleted at the end."""
    experiment = make_experiment(config)
    with tempfile.TemporaryDirectory() as directory:
        run = RunDirectory(Path(directory) / "run")
        run.create(config.to_dict())
        reporter, agreement = Reporter(Console(file=io.StringIO())), Agreement(StopRequest())
        with Record(experiment, run) as record:
            loop = Loop([record], reporter, Programs(experiment), agreement)
            loop.begin()
            yield loop


def main() -> None:
    arguments = parse_arguments()
    steps = arguments.steps
    endless = dict.fromkeys(("train.duration", "log.every", "evaluate.every"), 10**6)
    fields = endless | {"checkpoint.every": 10**6, "schedule.warmup": 0, "train.steps_per_call": 1}
    if arguments.depth:
        fields["model.depth"] = arguments.depth
    config = override(load_config(arguments.config), fields)
    with begun_loop(config) as loop:
        experiment, programs = loop.experiment, loop.programs
        loop.advance()
        loop.advance()  # The first one that reads metrics.
        step, inputs = programs.training(1), experiment.inputs.train(0, loop.seeds)
        state = experiment.parallel.place([programs.initialise(run_key(config.seed))])

        ratios, milliseconds = [], []
        for _ in range(arguments.repeats):
            start = time.perf_counter()
            for _ in range(steps):
                loop.advance()
            jax.block_until_ready(loop.state)
            in_loop = time.perf_counter() - start
            bare = 0.0
            for _ in range(steps):
                start = time.perf_counter()
                state, _ = jax.block_until_ready(step(state, loop.numbers, *inputs))
                bare += time.perf_counter() - start
            ratios.append(in_loop / bare)
            milliseconds.append(1000 * bare / steps)
    result = {
        "config": arguments.config,
        "depth": config.model.depth,
        "milliseconds_a_step": summary(milliseconds),
        "loop_over_steps": summary(ratios),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
