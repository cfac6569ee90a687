"""One run as a report sees it: config, state, curves, final errors."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from resnet_jax.config import flatten
from resnet_jax.training.run_directory import RunDirectory


class Curve(NamedTuple):
    """Error of one split in the course of a run.

    Attributes:
        step, epoch: float64[lines], increasing.
        error: float64[lines], in percent.
    """

    step: np.ndarray
    epoch: np.ndarray
    error: np.ndarray


EMPTY = Curve(np.zeros(0), np.zeros(0), np.zeros(0))


@dataclass(frozen=True)
class Run:
    """One run, started or not.

    Attributes:
        id: unique in the study.
        config: dotted field → value; lists are tuples.
        state: one of `run_directory.STATES`, `pending` (not started) or `unreadable`.
        error: why it failed; empty where it did not.
        status: status.json; empty before the start.
        train: mini-batch means since the line before: augmented, in train mode.
        test: evaluations.
        examples: of the evaluation split; 0 before the first evaluation.
        parameters, macs: None where unknown; macs are multiply-adds for one image.
    """

    id: str
    config: Mapping[str, Any]
    state: str = "pending"
    error: str = ""
    status: Mapping[str, Any] = field(default_factory=dict)
    train: Curve = EMPTY
    test: Curve = EMPTY
    examples: int = 0
    parameters: int | None = None
    macs: int | None = None

    @property
    def seed(self) -> Any:
        """The replicate that the run is."""
        return self.config.get("seed")

    @property
    def seconds(self) -> float | None:
        """Time that the run has taken."""
        return self.status.get("seconds")

    @property
    def progress(self) -> str:
        """`120 of 1280 steps`."""
        if not self.status:
            return ""
        return f"{self.status.get('step', 0)} of {self.status.get('total_steps', '?')} steps"

    def final_error(self, split: str) -> float | None:
        """Error in percent at the end of a run that is done, else None.

        Args:
            split: `test`, the last evaluation; or `train`, the mean over the last epoch.
        """
        if self.state != "done":
            return None
        if split == "train":
            return last_epoch(self.train)
        return float(self.test.error[-1]) if len(self.test.error) else None


def last_epoch(curve: Curve) -> float | None:
    """Mean over the lines that lie in the last epoch, or else the last one, weighted by steps.

    A line is the mean since the one before, so one that began earlier would bring in older errors.
    """
    if not len(curve.step):
        return None
    steps_per_epoch = curve.step[-1] / curve.epoch[-1] if curve.epoch[-1] > 0 else 1.0
    starts = np.concatenate([[0.0], curve.step[:-1]])
    # Epochs are rounded, and need not be whole numbers of steps.
    inside = starts > curve.step[-1] - steps_per_epoch - 1
    inside[-1] = True
    weights = np.maximum(curve.step - starts, 1e-9)
    return float(np.average(curve.error[inside], weights=weights[inside]))


def flat_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A nested config as {dotted field: value}; lists become tuples, which are hashable."""
    return {name: _hashable(value) for name, value in flatten(config).items()}


def _hashable(value: Any) -> Any:
    return tuple(_hashable(part) for part in value) if isinstance(value, (list, tuple)) else value


def read_run(run_id: str, directory: RunDirectory, planned: Mapping[str, Any]) -> Run:
    """Read a run directory; one that is damaged is a run in the state `unreadable`.

    Args:
        run_id: unique in the study.
        directory: of a run; it need not exist.
        planned: `config` (dotted field → value), `parameters`, `macs` where the study knows them;
            what the run wrote itself goes first.
    """
    if not (directory.path / "config.json").exists():
        return Run(run_id, planned["config"], **_cost(planned, {}))
    try:
        config = flat_config(directory.read_config())
        has_status = (directory.path / "status.json").exists()
        status = directory.read_status() if has_status else {}
        lines = list(directory.read_metrics())
        return Run(
            run_id,
            config,
            str(status.get("state", "pending")),
            str(status.get("error", "")),
            status,
            _curve(lines, "train"),
            _curve(lines, "eval"),
            max((line.get("examples", 0) for line in lines), default=0),
            **_cost(planned, status),
        )
    # A file cut or edited by hand must not hide the other runs.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        return Run(run_id, planned.get("config", {}), "unreadable", reason, **_cost(planned, {}))


def _cost(planned: Mapping[str, Any], status: Mapping[str, Any]) -> dict[str, Any]:
    return {name: status.get(name, planned.get(name)) for name in ("parameters", "macs")}


def _curve(lines: list[dict[str, Any]], event: str) -> Curve:
    shown = [line for line in lines if line["event"] == event and "accuracy" in line]
    table = [(line["step"], line["epoch"], 100 * (1 - line["accuracy"])) for line in shown]
    return Curve(*np.array(table, float).reshape(-1, 3).T)
