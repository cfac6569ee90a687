"""The training loop."""

import contextlib
import math
import signal
import time
from collections import deque
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from resnet_jax.errors import UserError
from resnet_jax.training.checkpoint import Checkpoints
from resnet_jax.training.evaluate import compile_evaluation, means
from resnet_jax.training.experiment import Experiment
from resnet_jax.training.interruption import SIGNALS, StopRequest
from resnet_jax.training.intervals import is_due, next_due
from resnet_jax.training.progress import Reporter
from resnet_jax.training.run_directory import RunDirectory
from resnet_jax.training.state import TrainState
from resnet_jax.training.steps import train_step
from resnet_jax.training.tensorboard import TensorBoard

DIVERGED = 3
NOTHING = {"loss": 0.0, "correct": 0, "count": 0}


class DivergedError(Exception):
    """The loss or the weights are not finite.

    Attributes:
        step: the first one found so.
    """

    def __init__(self, step: int) -> None:
        self.step = step
        super().__init__(f"loss or weights are not finite at step {step}")


def train(experiment: Experiment, run: RunDirectory, reporter: Reporter) -> int:
    """Train to the end, from the newest checkpoint where there is one.

    Args:
        experiment: what to train.
        run: an existing run directory of the same config.
        reporter: where progress goes.

    Returns:
        Exit code: 0 done, 3 diverged, 130 or 143 stopped by SIGINT or SIGTERM.
    """
    loop = Loop(experiment, run, reporter)
    try:
        with loop.checkpoints, StopRequest() as stop:
            loop.begin()
            while loop.step < experiment.total_steps and stop.signal is None:
                loop.advance()
                loop.log_and_evaluate_and_save()
            loop.save_if_behind()
            loop.checkpoints.wait()
            if stop.signal is None or loop.step == experiment.total_steps:
                return loop.finish("done", 0)
            exit_code, state = SIGNALS[stop.signal]
            return loop.finish(state, exit_code)
    except DivergedError as error:
        return loop.finish("diverged", DIVERGED, step=error.step, error=str(error))
    except KeyboardInterrupt:
        return loop.finish("interrupted", SIGNALS[signal.SIGINT][0])
    except BaseException as error:
        # On a full disk the status cannot be written either; the first error is the one to tell.
        with contextlib.suppress(UserError):
            loop.finish("failed", 1, error=f"{type(error).__name__}: {error}")
        raise


class Loop:
    """The state of a run in this process.

    Attributes:
        step: optimiser steps done.
        saved_step: that of the newest checkpoint.
        state: placed on the devices.
    """

    def __init__(self, experiment: Experiment, run: RunDirectory, reporter: Reporter) -> None:
        self.experiment, self.run, self.reporter = experiment, run, reporter
        options = experiment.config.checkpoint
        self.checkpoints = Checkpoints(
            run.checkpoints, keep_last=options.keep_last, keep_best=options.keep_best
        )
        self.evaluate = compile_evaluation(
            experiment.network, experiment.inputs, experiment.parallel
        )
        self.calls: dict[int, Any] = {}
        self.step = self.saved_step = self.checkpoints.latest() or 0
        self.state: TrainState
        self.tensorboard = (
            TensorBoard(run.tensorboard, self.step) if experiment.config.log.tensorboard else None
        )
        self.totals = dict(NOTHING)
        self.result: dict[str, Any] | None = None
        self.pending: deque[tuple[int, Any]] = deque()
        self.clock = Clock()

    def begin(self) -> None:
        """Initialise or restore; forget what was logged behind the checkpoint."""
        experiment = self.experiment
        if self.step:
            state, meta = self.checkpoints.restore(self.step, experiment.state_shapes())
            self.totals, self.result = meta["totals"], meta["result"]
            self.clock = Clock(meta["seconds"])
        else:
            state = experiment.initial_state()
        self.run.forget_after(self.step)
        self.state = experiment.parallel.replicate(state)
        self.reporter.start(experiment, str(self.run.path), self.step)
        self._write_status("running")

    def advance(self) -> None:
        """One compiled call. The metrics of the one before are read meanwhile."""
        experiment, at_most = self.experiment, self.experiment.config.train.steps_per_call
        length = at_most if at_most <= self._steps_to_boundary() else 1
        if length not in self.calls:
            self.calls[length] = compile_training(experiment, length)
        arguments = experiment.inputs.train(self.step)
        self.state, metrics = self.calls[length](self.state, arguments)
        self.pending.append((self.step, metrics))
        self.step += length
        self._read_metrics(leave=1)

    def _steps_to_boundary(self) -> int:
        e = self.experiment
        intervals = (e.log_every, e.evaluate_every, e.checkpoint_every)
        boundary = min(e.total_steps, *(next_due(self.step, every) for every in intervals))
        return boundary - self.step

    def _read_metrics(self, leave: int = 0) -> None:
        while len(self.pending) > leave:
            first, placed = self.pending.popleft()
            metrics = jax.device_get(self.experiment.parallel.collect(placed))
            for index, loss in enumerate(metrics["loss"]):
                if not math.isfinite(loss):
                    raise DivergedError(first + index + 1)
                for name in NOTHING:
                    self.totals[name] += metrics[name][index].item()
            self.clock.add(int(metrics["count"].sum()))
            self.reporter.step(self.step, means(self.totals), self.clock.rate())

    def log_and_evaluate_and_save(self) -> None:
        """Do what is due at this step; all of it at the end."""
        e, ended = self.experiment, self.step == self.experiment.total_steps
        log, evaluate, save = (
            ended or is_due(self.step, every)
            for every in (e.log_every, e.evaluate_every, e.checkpoint_every)
        )
        if not (log or evaluate or save):
            return
        self._read_metrics()
        if log:
            self._log(
                "train",
                **means(self.totals),
                learning_rate=float(e.schedule(self.step)),
                images_per_second=round(self.clock.rate(), 1),
            )
            self.totals = dict(NOTHING)
            self._write_status("running")
        if evaluate:
            self.result = self.evaluate(self.state) | {"split": e.facts["eval_split"]}
            self._log("eval", **self.result)
        if save:
            accuracy = self.result["accuracy"] if evaluate and self.result else None
            self._save(accuracy)
        self.clock.restart()

    def save_if_behind(self) -> None:
        """Save what a stop before the next checkpoint would lose."""
        self._read_metrics()
        if self.step > self.saved_step:
            self._save(accuracy=None)

    def _log(self, event: str, **numbers: Any) -> None:
        e = self.experiment
        epoch = round(self.step * e.config.train.batch_size / e.num_examples, 4)
        line = self.run.log(event, self.step, epoch=epoch, **numbers)
        self.reporter.event(line)
        if self.tensorboard is not None:
            self.tensorboard.write(line)

    def _save(self, accuracy: float | None) -> None:
        # The next step donates the buffers of the state, and the save goes on meanwhile.
        state, finite = _snapshot(self.experiment.parallel.collect(self.state))
        if not finite:
            raise DivergedError(self.step)
        seconds = self.clock.elapsed()
        meta = {"totals": self.totals, "result": self.result, "seconds": seconds}
        self.checkpoints.save(self.step, state, meta, accuracy)
        self.saved_step = self.step
        self._write_status("running")

    def _write_status(self, state: str, step: int | None = None, **facts: Any) -> None:
        devices = [str(device) for device in jax.devices()[: self.experiment.parallel.num_devices]]
        if self.result is not None:
            facts["result"] = self.result
        facts["seconds"] = round(self.clock.elapsed(), 1)
        self.run.write_status(
            state,
            self.step if step is None else step,
            self.experiment.total_steps,
            parameters=self.experiment.parameters,
            macs=self.experiment.macs,
            devices=devices,
            **facts,
        )

    def finish(self, state: str, exit_code: int, **facts: Any) -> int:
        """Write the last status; return the exit code."""
        self.reporter.stop()
        self._write_status(state, **facts)
        return exit_code


def compile_training(experiment: Experiment, length: int) -> Any:
    """Compile `length` steps as one call: (state, arguments) → (state, metrics[length])."""
    e = experiment

    def one_step(state: TrainState, arguments: tuple[Any, ...]):
        batch = e.inputs.train_batch(state.step, *arguments)
        return train_step(state, batch, e.network, e.optimizer, e.options)

    def call(state: TrainState, arguments: tuple[Any, ...]):
        if length == 1:
            state, metrics = one_step(state, arguments)
            return state, jax.tree.map(lambda m: m[None], metrics)
        return lax.scan(lambda s, _: one_step(s, arguments), state, length=length)

    return e.parallel.compile(call, e.inputs.placement, donate=True)


@jax.jit
def _snapshot(state: TrainState) -> tuple[TrainState, jax.Array]:
    weights = jax.tree.leaves((state.params, state.batch_stats, state.ema))
    finite = jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in weights]))
    return jax.tree.map(jnp.copy, state), finite


class Clock:
    """Images per second between interruptions by evaluation, saving and compilation.

    Args:
        seconds_before: that the run took in earlier processes.
    """

    def __init__(self, seconds_before: float = 0.0) -> None:
        self._born = time.monotonic() - seconds_before
        self._since: float | None = None
        self._images = 0

    def restart(self) -> None:
        """Start a new interval now."""
        self._since, self._images = time.monotonic(), 0

    def add(self, images: int) -> None:
        """Count images; the first call only starts the clock, as it includes compilation."""
        if self._since is None:
            self.restart()
        else:
            self._images += images

    def rate(self) -> float:
        """Images per second since the interval began."""
        if self._since is None or not self._images:
            return 0.0
        return self._images / (time.monotonic() - self._since)

    def elapsed(self) -> float:
        """Seconds that the run has taken, those of earlier processes included."""
        return time.monotonic() - self._born
