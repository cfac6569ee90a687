"""Stopping runs that do worse than the others at the same step."""

import statistics
from collections.abc import Mapping
from typing import Any

from resnet_jax.config import Config, flatten
from resnet_jax.sweeps.sweep_directory import SweepDirectory
from resnet_jax.training.loop import StopEarly
from resnet_jax.training.run_directory import PROTOCOL, RunDirectory

# So many others must have come to a step before their median counts, as in Optuna and Vizier.
FEWEST_OTHERS = 5


def below_median(directory: SweepDirectory, configs: Mapping[str, Config]) -> StopEarly:
    """The median stopping rule (Golovin et al. 2017, "Google Vizier", §3.2, here without averaging).

    A run stops where its test accuracy is below the median of the other runs at that step. Only runs
    on the same data, with the same batch size, duration and evaluation, are compared. What is stopped depends on
    the order in which runs are trained.

    Args:
        directory: of the sweep.
        configs: id → config of all its runs.
    """

    def task(run_id: str) -> tuple[Any, ...]:
        config = configs[run_id]
        fields = flatten(config.to_dict())
        evaluation = [fields[name] for name in PROTOCOL]
        return config.data.to_dict(), config.train.batch_size, config.train.duration, evaluation

    def decide(run: RunDirectory, step: int, accuracy: float) -> bool:
        mine = run.path.name
        others = [
            line["accuracy"]
            for other in configs
            if other != mine and task(other) == task(mine)
            for line in directory.run(other).read_metrics()
            if (line["event"], line["step"]) == ("eval", step)
        ]
        return len(others) >= FEWEST_OTHERS and accuracy < statistics.median(others)

    return decide
