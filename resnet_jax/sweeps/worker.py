"""The process that trains a job of a sweep.

    python -m resnet_jax.sweeps.worker --sweep=DIR --vectorize=auto RUN …

It ends with 0 when each of its runs has ended in some way, and with an exit code of `SIGNALS` when a
signal stopped it, after saving.
"""

import argparse
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from resnet_jax.compiler import turn_off_ynnpack
from resnet_jax.config import Config, override
from resnet_jax.console import print_progress, standard_streams
from resnet_jax.sweeps.executors import stop_with_parent
from resnet_jax.sweeps.jobs import ENDED, FINAL, amend_status, state
from resnet_jax.sweeps.sweep_directory import SweepDirectory
from resnet_jax.training.compilation_cache import keep_compiled_programs
from resnet_jax.training.interruption import SIGNALS, StopRequest

if TYPE_CHECKING:
    import jax

    from resnet_jax.sweeps.together import RunsTogether
    from resnet_jax.training.loop import StopEarly

Runs = dict[str, Config]
# Multiply-adds of a batch's forward pass up to which runs are one batch on a GPU or TPU; not measured.
SMALL = 10**10
# How runs with the same programs are trained; `off` is a process a run.
STRATEGIES = ("auto", "off", "turns", "map", "vmap", "shard")


def main() -> int:
    with standard_streams():
        print_progress()
        return _train()


def _train() -> int:
    turn_off_ynnpack()
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
    configs = {run["id"]: override(study["config"], run["overrides"]) for run in study["runs"]}
    # A job that Slurm starts again has runs that ended before.
    over = ENDED if arguments.retry_failed else FINAL
    runs = {i: configs[i] for i in arguments.runs if state(directory.run(i)) not in over}
    if not runs:
        return 0
    keep_compiled_programs(next(iter(runs.values())))
    stop_early = None
    if "search" in study:
        from resnet_jax.sweeps.search import ask_pruner

        stop_early = ask_pruner(study)
    elif arguments.early_stop:
        from resnet_jax.sweeps.early_stop import below_median

        stop_early = below_median(directory, configs)
    macs = {run["id"]: run["macs"] * configs[run["id"]].train.batch_size for run in study["runs"]}
    small = macs[next(iter(runs))] <= SMALL
    with StopRequest() as stop:
        group = Group(directory, stop, stop_early)
        group.train(runs, arguments.vectorize, small)
        return 0 if stop.signal is None else SIGNALS[stop.signal][0]


class Group:
    """Trains runs that share programs, each as if alone, until a signal comes.

    Args:
        directory: of the sweep.
        stop: where signals are noted.
        stop_early: of `loop.train`.
    """

    def __init__(
        self,
        directory: SweepDirectory,
        stop: StopRequest,
        stop_early: "StopEarly | None" = None,
    ) -> None:
        self.directory, self.stop, self.stop_early = directory, stop, stop_early

    def train(self, runs: Runs, strategy: str, small: bool) -> None:
        """Train all; one that fails does not stop the others.

        Args:
            runs: id → config.
            strategy: one of `STRATEGIES`.
            small: one run alone leaves most of a GPU idle.
        """
        import jax

        from resnet_jax.sweeps.together import RunsTogether

        fields = next(iter(runs.values())).parallel
        devices = jax.devices()[: fields.num_devices]
        if strategy == "auto":
            strategy = automatic_strategy(devices, small)
        if strategy in ("off", "turns") or fields.mode != "jit":
            self._in_turns(runs)
            return
        if strategy != "shard":
            devices = devices[:1]
        batched = small and devices[0].platform != "cpu"
        by_map = strategy == "map" or (strategy == "shard" and not batched)
        for part in self._parts(runs):
            self._together(part, RunsTogether(len(part), devices, by_map))

    def _parts(self, runs: Runs) -> list[Runs]:
        """Runs that have a saved step in common: those trained together go on from it."""
        parts: list[tuple[set[int], Runs]] = []
        for run_id, config in runs.items():
            steps = self.directory.run(run_id).checkpoint_steps() or {0}
            for common, part in parts:
                if common & steps:
                    common &= steps
                    part[run_id] = config
                    break
            else:
                parts.append((steps, {run_id: config}))
        return [part for _, part in parts]

    def _in_turns(self, runs: Runs) -> None:
        """One run after the other by the same compiled programs."""
        from resnet_jax.training.experiment import make_experiment
        from resnet_jax.training.loop import train
        from resnet_jax.training.programs import Programs
        from resnet_jax.training.progress import Reporter

        starts, facts = self._any_starts(runs), self._stored_data(runs)
        first = make_experiment(next(iter(runs.values())), starts=starts, facts=facts)
        first.check_training()
        programs = Programs(first)
        for run_id, config in runs.items():
            if self.stop.signal is not None:
                return
            experiment, run = first.of(config), self.directory.run(run_id)
            try:
                run.create(config.to_dict())
                run.write_data(experiment.facts)
                train([experiment], [run], Reporter(), programs, self.stop_early, self.stop)
            except Exception:
                # Its status says why; the log has the rest.
                traceback.print_exc()

    def _together(self, runs: Runs, layout: "RunsTogether") -> None:
        """All runs by one program, or halves of them where they do not fit the memory."""
        if self.stop.signal is not None:
            return
        if len(runs) == 1:
            self._in_turns(runs)
        elif not self._fit_together(runs, layout):
            print(f"{len(runs)} runs do not fit the memory together: trained in two halves")
            for run_id in runs:
                amend_status(self.directory.run(run_id), "interrupted")
            ids, middle = list(runs), len(runs) // 2
            for half in (ids[:middle], ids[middle:]):
                self._together({i: runs[i] for i in half}, layout.of(len(half)))

    def _fit_together(self, runs: Runs, layout: "RunsTogether") -> bool:
        from resnet_jax.training.experiment import make_experiment
        from resnet_jax.training.inputs import StreamInputs
        from resnet_jax.training.loop import train
        from resnet_jax.training.progress import Reporter

        starts, facts = self._any_starts(runs), self._stored_data(runs)
        config = next(iter(runs.values()))
        first = make_experiment(config, starts=starts, parallel=layout, facts=facts)
        if isinstance(first.inputs, StreamInputs):
            self._in_turns(runs)
            return True
        directories = [self.directory.run(run_id) for run_id in runs]
        experiments = [first.of(config) for config in runs.values()]
        for experiment, run in zip(experiments, directories, strict=True):
            run.create(experiment.config.to_dict())
            run.write_data(experiment.facts)
        try:
            train(
                experiments,
                directories,
                Reporter(),
                stop_early=self.stop_early,
                stop=self.stop,
            )
        except Exception as error:
            # The status of each says why; the log has the rest.
            traceback.print_exc()
            # XLA has no type for it: GPU and TPU say the first, CPU the second.
            return not any(words in str(error) for words in ("RESOURCE_EXHAUSTED", "Out of memory"))
        return True

    def _stored_data(self, runs: Runs) -> dict[str, Any] | None:
        """Facts about the data of the first run that resumes; None: all start."""
        stored = (self.directory.run(run_id).stored_data() for run_id in runs)
        return next((facts for facts in stored if facts is not None), None)

    def _any_starts(self, runs: Runs) -> bool:
        return not all(self.directory.run(run_id).has_checkpoint() for run_id in runs)


def automatic_strategy(devices: "Sequence[jax.Device]", small: bool) -> str:
    """The fastest strategy of `STRATEGIES` for these devices (docs/sweeps.md says what is measured)."""
    if len(devices) > 1:
        return "shard"
    return "vmap" if small and devices[0].platform != "cpu" else "turns"


if __name__ == "__main__":
    sys.exit(main())
