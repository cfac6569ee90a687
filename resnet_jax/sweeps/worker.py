"""The process that trains a job of a sweep.

    python -m resnet_jax.sweeps.worker --sweep=DIR --vectorize=auto RUN …

It ends with 0 when each of its runs has ended in some way, and with 143 or 130 when a signal stopped
it, after saving.
"""

import argparse
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ml_collections import ConfigDict

from resnet_jax.config_file import override
from resnet_jax.sweeps.executors import stop_with_parent
from resnet_jax.sweeps.jobs import state
from resnet_jax.sweeps.sweep_directory import SweepDirectory
from resnet_jax.training.compilation_cache import keep_compiled_programs
from resnet_jax.training.interruption import SIGNALS

if TYPE_CHECKING:
    import jax

    from resnet_jax.sweeps.together import RunsTogether
    from resnet_jax.training.loop import StopEarly

# Multiply-adds of a batch's forward pass up to which runs are one batch on a GPU or TPU; not measured.
SMALL = 10**10
STOPPED = [exit_code for exit_code, _ in SIGNALS.values()]
# How runs with the same programs are trained; `off` is a process a run.
STRATEGIES = ("auto", "off", "turns", "map", "vmap", "shard")


def main() -> int:
    stop_with_parent()
    parser = argparse.ArgumentParser(description="Train runs of a sweep that share programs.")
    parser.add_argument("--sweep", required=True, help="the sweep directory")
    parser.add_argument("--vectorize", default="auto", choices=STRATEGIES)
    parser.add_argument("--retry_failed", action="store_true")
    parser.add_argument("--early_stop", help="a rule of early_stop.py, or a pruner of search.py")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="ids of runs")
    arguments = parser.parse_args()
    directory = SweepDirectory(arguments.sweep)
    study = directory.read()
    base = ConfigDict(study["config"], type_safe=False)
    configs = {run["id"]: override(base, run["overrides"]) for run in study["runs"]}
    # What ended for good is left alone.
    over = {"done"} if arguments.retry_failed else {"done", "failed"}
    runs = {i: configs[i] for i in arguments.runs if state(directory.run(i)) not in over}
    if not runs:
        return 0
    keep_compiled_programs(next(iter(runs.values())), directory.compiled)
    stop_early = None
    if "search" in study:
        from resnet_jax.sweeps.search import ask_pruner

        stop_early = ask_pruner(study)
    elif arguments.early_stop:
        from resnet_jax.sweeps.early_stop import below_median

        stop_early = below_median(directory, configs)
    macs = {run["id"]: run["macs"] * configs[run["id"]].train.batch_size for run in study["runs"]}
    small = macs[next(iter(runs))] <= SMALL
    return train_group(directory, runs, arguments.vectorize, small, stop_early)


def train_group(
    directory: SweepDirectory,
    runs: dict[str, ConfigDict],
    strategy: str,
    small: bool,
    stop_early: "StopEarly | None" = None,
) -> int:
    """Train runs that share programs, each as if alone.

    Args:
        directory: of the sweep.
        runs: id → config.
        strategy: one of `STRATEGIES`.
        small: one run alone leaves most of a GPU idle.
        stop_early: of `loop.train`.

    Returns:
        0, 130 or 143, see above.
    """
    import jax

    from resnet_jax.sweeps.together import RunsTogether

    devices = jax.devices()
    if strategy == "auto":
        strategy = automatic_strategy(devices, small)
    stackable = all(config.parallel.mode == "jit" for config in runs.values())
    if strategy in ("off", "turns") or len(runs) == 1 or not stackable:
        return _in_turns(directory, runs, stop_early)
    if strategy != "shard":
        devices = devices[:1]
    batched = small and devices[0].platform != "cpu"
    by_map = strategy == "map" or (strategy == "shard" and not batched)
    return _together(directory, runs, RunsTogether(len(runs), devices, by_map), stop_early)


def automatic_strategy(devices: "Sequence[jax.Device]", small: bool) -> str:
    """The fastest strategy of `STRATEGIES` for these devices (docs/sweeps.md says what is measured)."""
    if len(devices) > 1:
        return "shard"
    return "vmap" if small and devices[0].platform != "cpu" else "turns"


def _in_turns(
    directory: SweepDirectory, runs: dict[str, ConfigDict], stop_early: "StopEarly | None"
) -> int:
    """One run after the other by the same compiled programs; one that fails does not stop the rest."""
    from resnet_jax.training.experiment import make_experiment
    from resnet_jax.training.loop import train
    from resnet_jax.training.programs import Programs
    from resnet_jax.training.progress import Reporter

    first = make_experiment(next(iter(runs.values())), starts=True)
    programs = Programs(first)
    for run_id, config in runs.items():
        experiment, run = first.of(config), directory.run(run_id)
        if run.state_when_over():
            continue
        try:
            run.create(config.to_dict())
            run.write_data(experiment.facts)
            exit_code = train([experiment], [run], Reporter(), programs, stop_early)
        except Exception:
            # Its status says why; the log has the rest.
            traceback.print_exc()
            continue
        if exit_code in STOPPED:
            return exit_code
    return 0


def _together(
    directory: SweepDirectory,
    runs: dict[str, ConfigDict],
    layout: "RunsTogether",
    stop_early: "StopEarly | None",
) -> int:
    """All runs by one program, or halves of them where they do not fit the memory."""
    from resnet_jax.training.experiment import make_experiment
    from resnet_jax.training.inputs import StreamInputs
    from resnet_jax.training.loop import train
    from resnet_jax.training.progress import Reporter

    first = make_experiment(next(iter(runs.values())), starts=True, parallel=layout)
    if isinstance(first.inputs, StreamInputs):
        return _in_turns(directory, runs, stop_early)
    directories = [directory.run(run_id) for run_id in runs]
    experiments = [first.of(config) for config in runs.values()]
    for experiment, run in zip(experiments, directories, strict=True):
        run.create(experiment.config.to_dict())
        run.write_data(experiment.facts)
    try:
        exit_code = train(experiments, directories, Reporter(), stop_early=stop_early)
        return exit_code if exit_code in STOPPED else 0
    except Exception as error:
        # The status of each says why; the log has the rest.
        traceback.print_exc()
        if len(runs) == 1 or not _is_out_of_memory(error):
            return 0
    print(f"{len(runs)} runs together do not fit the memory: they are trained in two halves")
    ids, middle = list(runs), len(runs) // 2
    for half in (ids[:middle], ids[middle:]):
        part = {run_id: runs[run_id] for run_id in half}
        exit_code = _together(directory, part, layout.of(len(part)), stop_early)
        if exit_code:
            return exit_code
    return 0


def _is_out_of_memory(error: Exception) -> bool:
    # XLA has no type for it: GPU and TPU say the first, CPU the second.
    return any(words in str(error) for words in ("RESOURCE_EXHAUSTED", "Out of memory"))


if __name__ == "__main__":
    sys.exit(main())
