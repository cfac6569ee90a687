"""Several runs as one: their states stacked, their files apart, the training loop the same."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import jax

from resnet_jax.data.decoding import DamagedImageError
from resnet_jax.data.on_device import OnDevice
from resnet_jax.sweeps.together import RunsTogether
from resnet_jax.training.clock import Clock
from resnet_jax.training.experiment import Experiment
from resnet_jax.training.hyperparameters import Hyperparameters
from resnet_jax.training.interruption import StopRequest
from resnet_jax.training.programs import Programs
from resnet_jax.training.progress import Lines, Reporter
from resnet_jax.training.record import NOTHING, Record, StopEarly
from resnet_jax.training.run_directory import RunDirectory
from resnet_jax.training.state import TrainState
from resnet_jax.training.steps import Metrics
from resnet_jax.training.train import train_recorded


@dataclass(frozen=True)
class StackedExperiment(Experiment):
    """Runs that one program trains.

    Attributes:
        runs: the experiment of each.
        orders: their orders of examples.
    """

    runs: tuple[Experiment, ...]
    orders: "Orders"

    def train_arguments(self, step: int) -> tuple[Any, Any]:
        """Placed arguments of the training call that begins at `step`, after states and numbers."""
        return self.orders.of(step), self.orders.inputs.train_arrays

    def placed_numbers(self) -> Hyperparameters:
        """The hyperparameters of each run, on the devices."""
        return self.orders.layout.stack([run.numbers for run in self.runs])


class Orders:
    """The orders of examples of several runs, on the devices.

    Args:
        inputs: that they share.
        layout: where the runs are.
        seeds: of the runs.
    """

    def __init__(self, inputs: OnDevice, layout: RunsTogether, seeds: Sequence[int]) -> None:
        self.inputs, self.layout, self._seeds = inputs, layout, seeds
        self._placed: tuple[int | None, Any] = (None, None)

    def of(self, step: int) -> Any:
        """The order of each run from the pass of `step` on."""
        number = self.inputs.window_number(step)
        if number != self._placed[0]:
            windows = [self.inputs.window(step, seed) for seed in self._seeds]
            self._placed = number, self.layout.stack(windows)
        return self._placed[1]


def stack(experiments: Sequence[Experiment], layout: RunsTogether) -> StackedExperiment:
    """Runs as one experiment.

    Args:
        experiments: with the same programs, made for one device; their data live there.
        layout: for this number of runs.
    """
    first = experiments[0]
    assert isinstance(first.inputs, OnDevice), "streams are not stacked"
    inputs = replace(first.inputs, devices=layout)
    parts = first.network, first.optimizer, first.loss, inputs, layout
    programs = Programs(first.config, first.numbers, *parts)
    runs = tuple(
        replace(run, inputs=inputs, parallel=layout, programs=programs) for run in experiments
    )
    orders = Orders(inputs, layout, [run.config.seed for run in runs])
    values = {field.name: getattr(runs[0], field.name) for field in fields(Experiment)}
    return StackedExperiment(**values, runs=runs, orders=orders)


class StackedRecord:
    """The records of several runs; see `Record`.

    Args:
        records: of each run, in the order of the stack.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records
        self.names = [name for record in records for name in record.names]

    @property
    def _active(self) -> list[Record]:
        return [record for record in self.records if record.active]

    @property
    def _one(self) -> Record:
        return (self._active or self.records)[0]

    @property
    def active(self) -> bool:
        """Whether a run is left to train."""
        return bool(self._active)

    @property
    def diverged(self) -> bool:
        """All runs diverged."""
        return all(record.diverged for record in self.records)

    @property
    def saved_step(self) -> int:
        """The oldest of the newest checkpoints of the active runs."""
        return min((record.saved_step for record in self._active), default=0)

    @property
    def seconds(self) -> float:
        """That all runs took in earlier processes."""
        return len(self.records) * self._one.seconds

    @property
    def totals(self) -> dict[str, Any]:
        """Metrics of the active runs, summed since the last train line."""
        return {name: sum(record.totals[name] for record in self._active) for name in NOTHING}

    def saved_steps(self) -> list[int]:
        """Steps that all runs have, the newest first; the last one is 0."""
        # A process that was killed may have saved some runs at a step and others not.
        saved = [set(record.saved_steps()) for record in self._active or self.records]
        return sorted(set.intersection(*saved), reverse=True)

    def restore(self, step: int) -> list[TrainState] | None:
        """The state of each run at `step`; None where a checkpoint is corrupt."""
        restored = [record.restore(step) for record in self.records]
        states = [state for state in restored if state is not None]
        return states if len(states) == len(restored) else None

    def begin(self, step: int, clock: Clock) -> list[str]:
        """See `Record.begin`."""
        return [line for record in self.records for line in record.begin(step, clock)]

    def damaged_images(self) -> dict[str, str]:
        """Those that one of the runs has reported."""
        return self._one.damaged_images()

    def is_evaluated(self, step: int) -> bool:
        """Whether nothing is left to evaluate at `step`."""
        return all(record.is_evaluated(step) for record in self.records)

    def add(self, first: int, metrics: Metrics) -> int:
        """Add metrics[runs, length] of the steps after `first`; returns the images of one run."""
        counts = [
            record.add(first, jax.tree.map(lambda m, run=run: m[run], metrics))
            for run, record in enumerate(self.records)
        ]
        return counts[0]

    def log_training(self, step: int, images_per_second: float, wait: Mapping[str, float]) -> None:
        """Write a train line for each run."""
        for record in self.records:
            record.log_training(step, images_per_second, wait)

    def log_damage(self, step: int, damage: DamagedImageError) -> None:
        """Write a line that names a corrupt image for each run."""
        for record in self.records:
            record.log_damage(step, damage)

    def log_evaluation(self, step: int, metrics: Metrics) -> None:
        """Write an eval line for each run, of metrics[batches, runs]."""
        for run, record in enumerate(self.records):
            record.log_evaluation(step, jax.tree.map(lambda m, run=run: m[:, run], metrics))

    def stop_if(self, decide: StopEarly, step: int, state: TrainState) -> None:
        """End early the runs that `decide` says."""
        for record in self.records:
            record.stop_if(decide, step, state)

    def save(self, step: int, state: TrainState) -> None:
        """Start to save each run."""
        for record in self.records:
            record.save(step, state)

    def wait(self) -> None:
        """Wait until the last saves are complete."""
        for record in self.records:
            record.wait()

    def write_status(self, state: str, step: int, **facts: Any) -> None:
        """Write the status of the active runs."""
        for record in self._active:
            record.write_status(state, step, **facts)


def train_together(
    experiments: Sequence[Experiment],
    runs: Sequence[RunDirectory],
    layout: RunsTogether,
    reporter: Reporter,
    stop_early: StopEarly | None = None,
    stop: StopRequest | None = None,
) -> int:
    """Train several runs by one program; see `training.train.train`.

    Args:
        experiments, layout: as of `stack`.
        runs: existing run directories of the same configs.
        reporter, stop_early, stop: as of `train`.
    """
    stacked, several = stack(experiments, layout), len(runs) > 1
    with contextlib.ExitStack() as context:
        for run in runs:
            context.enter_context(run.locked())
        records = [
            context.enter_context(
                Record(
                    experiment,
                    run,
                    [Lines(reporter, run.path.name if several else "")],
                    take=partial(layout.take, run=index),
                    shared=len(runs),
                )
            )
            for index, (experiment, run) in enumerate(zip(stacked.runs, runs, strict=True))
        ]
        # It has the methods of a `Record` that the loop calls.
        record: Any = StackedRecord(records)
        return train_recorded(stacked, record, reporter, stop_early, stop)
