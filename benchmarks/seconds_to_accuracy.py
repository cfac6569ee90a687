"""Seconds and test accuracy of whole runs, compilation left out.

    python benchmarks/seconds_to_accuracy.py --config=configs/cifar10_fast.py --runs=10

All runs share their compiled programs and differ in their seeds. The first compiles and is told apart.
The others are timed from their initialisation to the end of their last checkpoint, with the steps, the
evaluations and what is written in between. Prints one JSON object; `accuracy` is that of the runs which
did not diverge, and `accuracies` has null for the others.
"""

import argparse
import io
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from resnet_jax.compiler import turn_off_ynnpack

turn_off_ynnpack()  # Before JAX starts.

import jax
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.measuring import summary
from resnet_jax.config import load_config, override
from resnet_jax.errors import UserError
from resnet_jax.training.experiment import Experiment, make_experiment
from resnet_jax.training.loop import DIVERGED, train
from resnet_jax.training.programs import Programs
from resnet_jax.training.progress import Reporter
from resnet_jax.training.run_directory import RunDirectory


def parse_arguments() -> tuple[argparse.Namespace, dict[str, str]]:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--config", default="configs/cifar10_fast.py", help="what to train")
    add("--runs", type=int, default=10, help="seeds, after the one that compiles")
    add("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="config fields to change")
    arguments = parser.parse_args()
    if wrong := [text for text in arguments.set if "=" not in text]:
        parser.error(f"--set {wrong[0]}: write FIELD=VALUE")
    if arguments.runs < 1:
        parser.error("--runs must be 1 or more")
    return arguments, dict(text.split("=", 1) for text in arguments.set)


def whole_run(experiment: Experiment, programs: Programs, directory: Path) -> tuple[float, Any]:
    """Seconds and accuracy (0 to 1) of a run; None where it diverged."""
    run, reporter = RunDirectory(directory), Reporter(Console(file=io.StringIO()))
    run.create(experiment.config.to_dict())
    start = time.perf_counter()
    diverged = train([experiment], [run], reporter, programs) == DIVERGED
    seconds = time.perf_counter() - start
    return seconds, None if diverged else run.read_status()["result"]["accuracy"]


def summary_with_mean(values: list[float]) -> dict[str, float | None]:
    """`summary`, the mean and the standard deviation; that of one value is None."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.mean(values), "std": deviation, **summary(values)}


def main() -> None:
    arguments, fields = parse_arguments()
    try:
        first = make_experiment(override(load_config(arguments.config), fields))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    programs, results = Programs(first), []
    with tempfile.TemporaryDirectory() as directory:
        for seed in range(arguments.runs + 1):
            experiment = first.of(override(first.config, {"seed": seed}))
            results.append(whole_run(experiment, programs, Path(directory) / str(seed)))
    (first_seconds, _), *others = results
    seconds, accuracies = zip(*others, strict=True)
    known = [accuracy for accuracy in accuracies if accuracy is not None]
    result = {
        **vars(arguments),
        "data": first.source.name,
        "device": jax.devices()[0].device_kind,
        "steps": first.total_steps,
        "seconds_of_the_first": round(first_seconds, 2),
        "seconds": summary_with_mean(list(seconds)),
        "accuracy": summary_with_mean(known) if known else None,
        "accuracies": accuracies,
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
