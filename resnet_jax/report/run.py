"""One run as a report sees it: config, state, curves, final errors."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from resnet_jax.config import flatten, to_steps
from resnet_jax.run_states import PENDING, UNREADABLE
from resnet_jax.training.metrics_log import missing_lines
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
        state: one of `run_states`.
        error: why it failed; empty where it did not.
        status: status.json; empty before the start.
        data: facts of data.json, lists as tuples; empty before the start.
        conditions: everything that can change the numbers, except the seed (`conditions.with_conditions`).
        train: mini-batch means since the line before: augmented, in train mode.
        test: evaluations.
        examples: of the evaluation split; 0 before the first evaluation.
        missing: what its log lacks, in words; empty: nothing.
        parameters, macs: None where unknown; macs are multiply-adds for one image.
    """

    id: str
    config: Mapping[str, Any]
    state: str = PENDING
    error: str = ""
    status: Mapping[str, Any] = field(default_factory=dict)
    train: Curve = EMPTY
    test: Curve = EMPTY
    examples: int = 0
    parameters: int | None = None
    macs: int | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    conditions: Mapping[str, Any] = field(default_factory=dict)
    missing: str = ""

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
        curve: Curve = getattr(self, split)
        # Of a run that is done, the last step has a line of both kinds; an earlier one is not final.
        if not len(curve.step) or self.status.get("step", curve.step[-1]) != curve.step[-1]:
            return None
        return last_epoch(curve) if split == "train" else float(curve.error[-1])


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
    if isinstance(value, Mapping):
        raise ValueError("config: a list holds an object")
    return tuple(_hashable(part) for part in value) if isinstance(value, (list, tuple)) else value


def read_run(run_id: str, directory: RunDirectory, planned: Mapping[str, Any]) -> Run:
    """Read a run directory; a corrupt one gives a run in the state `unreadable`.

    Args:
        run_id: unique in the study.
        directory: of a run; it need not exist.
        planned: `config` (dotted field → value), `parameters`, `macs` where the study knows them;
            what the run wrote itself goes first.
    """
    try:
        if not (directory.path / "config.json").exists():
            return Run(run_id, planned["config"], **_cost(planned, {}))
        config = flat_config(directory.read_config())
        has_status = (directory.path / "status.json").exists()
        status = directory.read_status() if has_status else {}
        has_data = (directory.path / "data.json").exists()
        lines = list(directory.read_metrics())
        state, error = str(status.get("state", PENDING)), str(status.get("error", ""))
        if state == "done" and not _is_finite_throughout(directory, lines):
            # Earlier versions called such a run done.
            state, error = "diverged", "metrics.jsonl has a loss or accuracy that is not finite"
        data = _facts(directory.read_data()) if has_data else {}
        return Run(
            run_id,
            config,
            state,
            error,
            status,
            _curve(lines, "train"),
            _curve(lines, "eval"),
            max((line.get("examples", 0) for line in lines), default=0),
            data=data,
            missing=_missing(config, status, data, lines) if state == "done" else "",
            **_cost(planned, status),
        )
    # A file cut or edited by hand must not hide the other runs.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        return Run(run_id, planned.get("config", {}), UNREADABLE, reason, **_cost(planned, {}))


def _cost(planned: Mapping[str, Any], status: Mapping[str, Any]) -> dict[str, Any]:
    return {name: status.get(name, planned.get(name)) for name in ("parameters", "macs")}


def _facts(data: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of data.json that a report compares.

    Raises:
        TypeError, ValueError: one of them is of another kind.
    """
    kinds: dict[str, type] = {"class_names": str, "image_shape": int, "mean": float, "std": float}
    facts: dict[str, Any] = {
        name: tuple(map(kind, data[name])) for name, kind in kinds.items() if name in data
    }
    if "mean" in data and "std" in data:
        # Earlier versions stored neither: they resized bilinearly and normalised by what they measured.
        facts |= {"interpolation": "bilinear", "measured": (*facts["mean"], *facts["std"])}
    if "measured" in data:
        facts["measured"] = tuple(float(x) for part in data["measured"].values() for x in part)
    for name in ("train_examples", "eval_examples"):
        if name in data:
            facts[name] = int(data[name])
    return facts | {
        name: str(data[name]) for name in ("eval_split", "interpolation") if name in data
    }


def _missing(
    config: Mapping[str, Any],
    status: Mapping[str, Any],
    data: Mapping[str, Any],
    lines: list[dict[str, Any]],
) -> str:
    """What the log of a run that is done lacks, in words; empty: nothing, or not known."""
    every, step = config.get("log.every"), status.get("step")
    needed = () if isinstance(every, int) else ("train_examples",)
    if every is None or step is None or any(name not in data for name in needed):
        return ""
    examples, batch_size = data.get("train_examples", 1), config["train.batch_size"]
    return missing_lines(lines, step, to_steps("log.every", every, examples, batch_size), True)


def _is_finite_throughout(directory: RunDirectory, lines: list[dict[str, Any]]) -> bool:
    """Whether all losses and accuracies are numbers; of the lines that `RunDirectory` leaves out, too."""
    path = directory.path / "metrics.jsonl"
    if path.exists():
        with path.open("rb") as file:
            if any(re.search(rb'": *-?(NaN|Infinity)', line) for line in file):
                return False
    numbers = [line.get(name, 0) for line in lines for name in ("loss", "accuracy")]
    return all(map(_is_finite, numbers))


def _is_finite(number: Any) -> bool:
    return isinstance(number, (int, float)) and math.isfinite(number)


def _curve(lines: list[dict[str, Any]], event: str) -> Curve:
    """The lines with a finite accuracy, by step; of several of one step, the last.

    Raises:
        ValueError: an accuracy that is not from 0 to 1.
    """
    rows: dict[int, tuple[float, float, float]] = {}
    for line in lines:
        if line["event"] == event and _is_finite(line.get("accuracy")):
            if not 0 <= line["accuracy"] <= 1:
                raise ValueError(f"accuracy {line['accuracy']} at step {line['step']}")
            rows[line["step"]] = (line["step"], line["epoch"], 100 * (1 - line["accuracy"]))
    return Curve(*np.array([rows[step] for step in sorted(rows)], float).reshape(-1, 3).T)
