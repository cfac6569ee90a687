"""Runs per hour of seeds of one network, by how a sweep trains them, and their step times.

    python benchmarks/sweep.py --config=configs/digits.py --runs=8

Step times of all strategies are measured in turn in one process; the whole sweeps are processes of
their own, each with an empty compilation cache and once more with a full one. `off` trains each run in
a process of its own; without a cache, that is what it costs where programs hold their seed. Prints
one JSON object.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax

sys.path.insert(0, str(Path(__file__).parents[1]))

from resnet_jax.config import load_config, override
from resnet_jax.random_streams import run_key
from resnet_jax.sweeps.together import RunsTogether
from resnet_jax.training.experiment import Experiment, make_experiment
from resnet_jax.training.programs import Programs

ROOT = Path(__file__).parents[1]
CACHES = ("none", "cold", "warm")
STUDY = """
from resnet_jax.config import load_config, override


def get_config():
    return override(load_config({config!r}), {fields!r})


def sweep():
    return [{{"seed": seed}} for seed in range({runs})]
"""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--config", default="configs/digits.py", help="what to train")
    add("--duration", default="5 epochs", help="of each run of the whole sweeps")
    add("--runs", type=int, default=8, help="seeds")
    add("--steps", type=int, default=10, help="timed steps of each run a round")
    add("--repeats", type=int, default=5, help="rounds of step times, strategies in turn; 0: none")
    add("--whole", nargs="*", default=["off", "turns", "map", "vmap", "shard"], help="whole sweeps")
    add("--caches", nargs="+", default=CACHES, choices=CACHES, help="theirs; none: for `off` alone")
    return parser.parse_args()


def prepare(experiment: Experiment, seeds: tuple[int, ...]) -> Any:
    """A function that does some steps of the runs with these seeds."""
    programs, parallel = Programs(experiment), experiment.parallel
    state = parallel.place([programs.initialise(run_key(seed)) for seed in seeds])
    numbers = [experiment.of(override(experiment.config, {"seed": s})).numbers for s in seeds]
    placed = parallel.stack(numbers)

    def run(steps: int) -> None:
        nonlocal state
        for step in range(steps):
            own, shared = experiment.inputs.train(step, seeds)
            state, _ = programs.training(1)(state, placed, own, shared)
        jax.block_until_ready(state)

    return run


def step_times(arguments: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of a step of one run, by strategy."""
    config = override(load_config(arguments.config), {"parallel.num_devices": 1})
    devices, seeds = jax.devices(), tuple(range(arguments.runs))
    on_cpu = devices[0].platform == "cpu"
    layouts = {
        "map": RunsTogether(len(seeds), devices[:1], True),
        "vmap": RunsTogether(len(seeds), devices[:1], False),
        "shard": RunsTogether(len(seeds), devices, on_cpu),
    }
    alone = prepare(make_experiment(config), seeds[:1])
    calls = {"turns": lambda steps: [alone(steps) for _ in seeds]}
    for name, layout in layouts.items():
        calls[name] = prepare(make_experiment(config, parallel=layout), seeds)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call(2)
    for _ in range(arguments.repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call(arguments.steps)
            seconds = time.perf_counter() - start
            times[name].append(1000 * seconds / arguments.steps / len(seeds))
    result = {}
    for name, values in times.items():
        ratios = [value / turn for value, turn in zip(values, times["turns"], strict=True)]
        result[name] = {
            "milliseconds": round(statistics.median(values), 3),
            "over_turns": round(statistics.median(ratios), 3),
            "min": round(min(ratios), 3),
            "max": round(max(ratios), 3),
        }
    return result


def whole_sweep(study: Path, workdir: Path, strategy: str, **variables: str) -> float:
    """Seconds of the command `sweep`."""
    words = [sys.executable, "launch.py", "sweep", f"--config={study}", f"--workdir={workdir}"]
    start = time.perf_counter()
    subprocess.run(
        [*words, f"--vectorize={strategy}"],
        cwd=ROOT,
        env=os.environ | variables,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - start


def main() -> None:
    arguments = parse_arguments()
    if jax.config.jax_platforms in (None, "cpu"):
        # On a CPU, devices to shard over are simulated; elsewhere this has no effect.
        jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    result: dict[str, Any] = {"config": arguments.config, "runs": arguments.runs}
    result["devices"] = [str(device) for device in jax.devices()]
    result["step"] = step_times(arguments) if arguments.repeats else None
    fields = {"train.duration": arguments.duration}
    with tempfile.TemporaryDirectory() as directory:
        study = Path(directory) / "seeds.py"
        config = str(Path(arguments.config).absolute())
        study.write_text(STUDY.format(config=config, fields=fields, runs=arguments.runs))
        whole: dict[str, Any] = {}
        if "off" in arguments.whole and "none" in arguments.caches:
            none = {"JAX_ENABLE_COMPILATION_CACHE": "false"}
            seconds = whole_sweep(study, Path(directory) / "none", "off", **none)
            whole["off, no cache"] = {"seconds": round(seconds, 1)}
        for strategy in arguments.whole:
            cache = str(Path(directory) / f"cache_{strategy}")
            for state in [state for state in ("cold", "warm") if state in arguments.caches]:
                workdir = Path(directory) / f"{strategy}_{state}"
                variables = {"JAX_COMPILATION_CACHE_DIR": cache}
                seconds = whole_sweep(study, workdir, strategy, **variables)
                whole[f"{strategy}, {state}"] = {"seconds": round(seconds, 1)}
        for entry in whole.values():
            entry["runs_per_hour"] = round(3600 * arguments.runs / entry["seconds"])
        result["sweep"] = whole
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
