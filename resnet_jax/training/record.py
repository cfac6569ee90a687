"""The files of one run: its metrics, status and checkpoints."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from resnet_jax.data.decoding import DamagedImageError
from resnet_jax.errors import UserError
from resnet_jax.random_streams import run_key
from resnet_jax.training.checkpoint import Checkpoints, DamagedCheckpointError
from resnet_jax.training.clock import Clock
from resnet_jax.training.experiment import Experiment
from resnet_jax.training.hosts import exchange
from resnet_jax.training.metrics_log import evaluations, missing_lines
from resnet_jax.training.programs import means
from resnet_jax.training.run_directory import RunDirectory
from resnet_jax.training.sinks import Sink, make_sinks
from resnet_jax.training.state import TrainState, snapshot
from resnet_jax.training.steps import Metrics
from resnet_jax.training.utilisation import speed_of

# Called with a run, a step and its test accuracy after each evaluation: whether the run shall stop there.
StopEarly = Callable[[RunDirectory, int, float], bool]
NOTHING = {"loss": 0.0, "correct": 0, "count": 0}


class Record:
    """What a run writes. A context manager: leaving it waits for the last save.

    Args:
        experiment: what is trained.
        run: an existing run directory of the same config, locked.
        sinks: take its lines, in addition to the config's sinks.
        take: one copy of the run's placed state; None: `parallel.take` of the experiment.
        shared: how many runs share the time of this process.

    Attributes:
        active: the run has not diverged and was not stopped early.
        diverged: a loss, an evaluation or the weights were not finite.
        totals: metrics summed since the last train line.
        result: of the last evaluation.
        evaluations: step → result.
        damaged: checkpoints that `restore` found corrupt, by step.
        saved_step: step of the newest checkpoint.
        seconds: that the run took in earlier processes.
        names: the paths of its directory, as the user gave them.
    """

    def __init__(
        self,
        experiment: Experiment,
        run: RunDirectory,
        sinks: Sequence[Sink] = (),
        take: Callable[[TrainState], TrainState] | None = None,
        shared: int = 1,
    ) -> None:
        self.experiment, self.run, self.names = experiment, run, [str(run.path)]
        self._take, self._shared = take or experiment.parallel.take, shared
        self._more_sinks = sinks
        self._sinks: list[Sink] = []
        options = experiment.config.checkpoint
        self.evaluations = evaluations(run.readable_metrics())
        self.checkpoints = Checkpoints(
            run.checkpoints,
            self.evaluations,
            keep_last=options.keep_last,
            keep_best=options.keep_best,
        )
        # A run that diverged or was stopped early stays so.
        over = run.state_when_over()
        self.active, self.diverged = over is None, over == "diverged"
        self.totals: dict[str, Any] = dict(NOTHING)
        self.result: dict[str, Any] | None = None
        self.damaged: dict[int, DamagedCheckpointError] = {}
        self.saved_step, self.seconds, self._clock = 0, 0.0, Clock()

    def __enter__(self) -> "Record":
        return self

    def __exit__(self, *error: Any) -> None:
        for sink in self._sinks:
            sink.close()
        self.checkpoints.__exit__(*error)

    def saved_steps(self) -> list[int]:
        """Steps at which the run can begin, the newest first; the last one is 0."""
        return sorted({0, *self.checkpoints.steps()}, reverse=True)

    def restore(self, step: int) -> TrainState | None:
        """One copy of the state at `step`, one of `saved_steps`; None where the checkpoint is corrupt.

        Raises:
            UserError: all checkpoints are corrupt.
        """
        experiment = self.experiment
        if not step and self.damaged:
            raise all_damaged([*self.damaged.values()])
        if not step or not self.active:
            return experiment.start(experiment.programs.initialise(run_key(experiment.config.seed)))
        if step in self.damaged:
            return None
        try:
            state, meta = self.checkpoints.restore(step, experiment.state_shapes())
        except DamagedCheckpointError as error:
            self.damaged[step] = error
            return None
        self.totals, self.seconds = meta["totals"], meta["seconds"]
        self.result = self.evaluations.get(step, meta["result"])
        return state

    def begin(self, step: int, clock: Clock) -> list[str]:
        """Drop lines, evaluations and checkpoints after `step`, where the run resumes.

        Args:
            step: of the state that was restored.
            clock: of the loop.

        Returns:
            What was found corrupt and is now in the directory's `damaged/`, in words.
        """
        self._clock = clock
        if not self.active:
            return []
        self.saved_step = step
        self._forget_evaluations_after(step)
        found = []
        for damaged, error in self.damaged.items():
            if self.run.writes:
                self.run.set_aside(self.run.checkpoints / str(damaged))
            found.append(
                f"checkpoint of step {damaged} is damaged ({error.reason}): going on from step {step}"
            )
        # Other processes look only once it is moved.
        exchange("")
        self.checkpoints.forget_after(step)
        if unreadable := self.run.forget_after(step):
            found.append(f"metrics.jsonl had {unreadable} lines that cannot be read: left out")
        if missing := missing_lines(self.run.readable_metrics(), step, self.experiment.log_every):
            found.append(f"{missing}: its curves have a gap")
        self._sinks = [*make_sinks(self.experiment.config.log, self.run, step), *self._more_sinks]
        return found

    def is_evaluated(self, step: int) -> bool:
        """Whether nothing is left to evaluate at `step`."""
        return not self.active or step in self.evaluations

    def _forget_evaluations_after(self, step: int) -> None:
        for later in [evaluated for evaluated in self.evaluations if evaluated > step]:
            del self.evaluations[later]

    def add(self, first: int, metrics: Metrics) -> int:
        """Add the metrics[length] of the steps after `first`; a loss that is not finite ends the run.

        Returns:
            The images of these steps.
        """
        for index, loss in enumerate(metrics["loss"]):
            if not math.isfinite(loss):
                self.diverge(first + index + 1)
            if not self.active:
                break
            for name in NOTHING:
                self.totals[name] += metrics[name][index].item()
        return int(metrics["count"].sum())

    def log_training(self, step: int, images_per_second: float, wait: Mapping[str, float]) -> None:
        """Write a train line, and start new totals.

        Its `learning_rate` is the rate of its last step, which is `step` - 1 to the schedule.

        Args:
            step: steps done.
            images_per_second: 0: not known.
            wait: of `Inputs.take_wait`.
        """
        if not self.active:
            return
        rate = float(self.experiment.schedule(step - 1))
        numbers = means(self.totals) | {"learning_rate": rate}
        self.totals = dict(NOTHING)
        speed = speed_of(self.experiment, images_per_second, self._shared)
        self._log("train", step, **numbers, **speed, **wait)

    def log_damage(self, step: int, damage: DamagedImageError) -> None:
        """Write a line that names a corrupt image."""
        if self.active:
            facts = {"example": damage.name, "problem": damage.problem}
            self._write({"event": "bad_example", "step": step, **facts})

    def damaged_images(self) -> dict[str, str]:
        """Name → problem of the corrupt images in the log."""
        lines = (line for line in self.run.readable_metrics() if line["event"] == "bad_example")
        return {line["example"]: line["problem"] for line in lines}

    def log_evaluation(self, step: int, metrics: Metrics) -> None:
        """Write an eval line; a result that is not finite ends the run.

        Args:
            step: steps done.
            metrics: as `Programs.evaluate` returns them.
        """
        if self.is_evaluated(step):
            return
        result = self.experiment.result(metrics)
        if result["loss"] is None:
            self.diverge(step, "the evaluation is")
            return
        self.result = result | {"split": self.experiment.facts["eval_split"]}
        self.evaluations[step] = self.result
        self._log("eval", step, **self.result)

    def _log(self, event: str, step: int, **numbers: Any) -> None:
        e = self.experiment
        epoch = round(step * e.config.train.batch_size / e.num_examples, 4)
        self._write({"event": event, "step": step, "epoch": epoch, **numbers})

    def _write(self, line: Mapping[str, Any]) -> None:
        for sink in self._sinks:
            sink.write(line)

    def save(self, step: int, state: TrainState) -> None:
        """Start to save the placed state; weights that are not finite end the run instead."""
        if not self.active:
            return
        # The next step donates the buffers of the state, while the save is under way.
        state, finite = snapshot(self._take(state))
        if not finite:
            self.diverge(step)
            return
        # A checkpoint is of use only with the log of its steps.
        self.run.metrics.flush()
        meta = {"totals": self.totals, "result": self.result, "seconds": self._seconds()}
        self.checkpoints.save(step, state, meta)
        self.saved_step = step
        self.write_status("running", step)

    def diverge(self, step: int, what: str = "loss or weights are") -> None:
        """End the run, of which `what` is not finite at `step`; nothing of that step is kept."""
        self.active, self.diverged = False, True
        self.run.forget_after(step - 1)
        self._forget_evaluations_after(step - 1)
        self.result = self.evaluations[max(self.evaluations)] if self.evaluations else None
        error = f"{what} not finite at step {step}"
        self.write_status("diverged", step, error=error)

    def stop_if(self, decide: StopEarly, step: int, state: TrainState) -> None:
        """End the run early where `decide` says so; after the last step that does not count.

        Args:
            decide: see `StopEarly`.
            step: steps done.
            state: placed, to save it.
        """
        if not self.active or self.result is None:
            return
        ended = step == self.experiment.total_steps
        if decide(self.run, step, self.result["accuracy"]) and not ended:
            if self.saved_step < step:
                self.save(step, state)
            if self.active:
                self.active = False
                self.write_status("stopped", step)

    def _seconds(self) -> float:
        # Of runs that share the time each counts for its part.
        return self._clock.elapsed() / self._shared

    def wait(self) -> None:
        """Wait until the last save is complete."""
        self.checkpoints.wait()

    def write_status(self, state: str, step: int, **facts: Any) -> None:
        """Write status.json; see `RunDirectory.write_status`."""
        e = self.experiment
        devices = [str(device) for device in e.parallel.devices]
        if self.result is not None:
            facts["result"] = self.result
        if self.checkpoints.saved_step is not None:
            facts["saved_step"] = self.checkpoints.saved_step
        facts["seconds"] = round(self._seconds(), 1)
        self.run.write_status(
            state,
            step,
            e.total_steps,
            parameters=e.parameters,
            macs=e.macs,
            devices=devices,
            **facts,
        )


def all_damaged(errors: Sequence[DamagedCheckpointError]) -> UserError:
    """The error where no checkpoint is left to resume from; nothing was changed."""
    return UserError(
        "checkpoint",
        errors[0].value,
        f"is damaged ({errors[0].reason}), and so are all others",
        "put them back from a copy, or remove the directory to train from the start",
    )
