"""What one run writes: its metrics, status and checkpoints."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from resnet_jax.random_streams import run_key
from resnet_jax.training.checkpoint import Checkpoints
from resnet_jax.training.experiment import Experiment
from resnet_jax.training.programs import Programs, means
from resnet_jax.training.run_directory import RunDirectory
from resnet_jax.training.state import TrainState
from resnet_jax.training.tensorboard import TensorBoard

NOTHING = {"loss": 0.0, "correct": 0, "count": 0}


class Record:
    """The written side of a run.

    Args:
        experiment: what is trained.
        run: an existing run directory of the same config.

    Attributes:
        active: the run goes on; it has not diverged and was not stopped early.
        diverged: the loss or the weights were not finite.
        totals: metrics summed since the last train line.
        result: of the last evaluation.
        saved_step: that of the newest checkpoint.
        seconds: that the run took in earlier processes.
    """

    def __init__(self, experiment: Experiment, run: RunDirectory) -> None:
        self.experiment, self.run = experiment, run
        options = experiment.config.checkpoint
        self.checkpoints = Checkpoints(
            run.checkpoints, keep_last=options.keep_last, keep_best=options.keep_best
        )
        # A run that diverged or was stopped early stays so.
        over = run.state_when_over()
        self.active, self.diverged = over is None, over == "diverged"
        self.totals: dict[str, Any] = dict(NOTHING)
        self.result: dict[str, Any] | None = None
        self.saved_step, self.seconds = 0, 0.0
        self.tensorboard: TensorBoard | None = None

    def begin(self, step: int, programs: Programs) -> TrainState:
        """The state at `step`, 0 or that of a checkpoint; what was written behind it is forgotten."""
        experiment = self.experiment
        if step and self.active:
            state, meta = self.checkpoints.restore(step, experiment.state_shapes())
            self.totals, self.result = meta["totals"], meta["result"]
            self.seconds = meta["seconds"]
        else:
            state = experiment.start(programs.initialise(run_key(experiment.config.seed)))
        if not self.active:
            return state
        self.saved_step = step
        self.checkpoints.forget_after(step)
        self.run.forget_after(step)
        if experiment.config.log.tensorboard:
            self.tensorboard = TensorBoard(self.run.tensorboard, step)
        return state

    def add(self, first: int, metrics: dict[str, Any], seconds: float) -> None:
        """Add the metrics[length] of the steps behind `first`; a loss that is not finite ends the run."""
        for index, loss in enumerate(metrics["loss"]):
            if not math.isfinite(loss):
                self.diverge(first + index + 1, seconds)
            if not self.active:
                return
            for name in NOTHING:
                self.totals[name] += metrics[name][index].item()

    def log_training(self, step: int, images_per_second: float) -> dict[str, Any]:
        """Write a train line and start new totals."""
        rate = float(self.experiment.schedule(step))
        numbers = means(self.totals) | {"learning_rate": rate}
        self.totals = dict(NOTHING)
        return self._log("train", step, **numbers, images_per_second=round(images_per_second, 1))

    def log_evaluation(self, step: int, result: dict[str, Any]) -> dict[str, Any]:
        """Write an eval line."""
        self.result = result | {"split": self.experiment.facts["eval_split"]}
        return self._log("eval", step, **self.result)

    def _log(self, event: str, step: int, **numbers: Any) -> dict[str, Any]:
        e = self.experiment
        epoch = round(step * e.config.train.batch_size / e.num_examples, 4)
        line = self.run.log(event, step, epoch=epoch, **numbers)
        if self.tensorboard is not None:
            self.tensorboard.write(line)
        return line

    def save(self, step: int, state: TrainState, accuracy: float | None, seconds: float) -> None:
        """Start to save one copy of the state; weights that are not finite end the run instead."""
        # The next step donates the buffers of the state, and the save goes on meanwhile.
        state, finite = _snapshot(state)
        if not finite:
            self.diverge(step, seconds)
            return
        meta = {"totals": self.totals, "result": self.result, "seconds": seconds}
        self.checkpoints.save(step, state, meta, accuracy)
        self.saved_step = step
        self.write_status("running", step, seconds=seconds)

    def diverge(self, step: int, seconds: float) -> None:
        """End the run, whose loss or weights are not finite at `step`."""
        self.active, self.diverged = False, True
        error = f"loss or weights are not finite at step {step}"
        self.write_status("diverged", step, error=error, seconds=seconds)

    def stop(self, step: int, seconds: float) -> None:
        """End the run early."""
        self.active = False
        self.write_status("stopped", step, seconds=seconds)

    def write_status(self, state: str, step: int, **facts: Any) -> None:
        """Write status.json; see `RunDirectory.write_status`."""
        e = self.experiment
        devices = [str(device) for device in jax.devices()[: e.parallel.num_devices]]
        if self.result is not None:
            facts["result"] = self.result
        facts["seconds"] = round(facts.get("seconds", self.seconds), 1)
        self.run.write_status(
            state,
            step,
            e.total_steps,
            parameters=e.parameters,
            macs=e.macs,
            devices=devices,
            **facts,
        )


@jax.jit
def _snapshot(state: TrainState) -> tuple[TrainState, jax.Array]:
    weights = jax.tree.leaves((state.params, state.batch_stats, state.ema))
    finite = jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in weights]))
    return jax.tree.map(jnp.copy, state), finite
