"""The training loop, of one run or of several that one program trains together."""

import contextlib
import signal
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax

from resnet_jax.errors import UserError, printable
from resnet_jax.training.clock import Clock
from resnet_jax.training.experiment import Experiment
from resnet_jax.training.hosts import Agreement
from resnet_jax.training.interruption import SIGNALS, StopRequest
from resnet_jax.training.intervals import is_due, next_due
from resnet_jax.training.profile import Profile
from resnet_jax.training.programs import Programs, means
from resnet_jax.training.progress import Reporter
from resnet_jax.training.record import NOTHING, Record, all_damaged
from resnet_jax.training.run_directory import RunDirectory
from resnet_jax.training.state import TrainState
from resnet_jax.training.utilisation import speed_of

DIVERGED = 3
StopEarly = Callable[[RunDirectory, int, float], bool]


def train(
    experiments: Sequence[Experiment],
    runs: Sequence[RunDirectory],
    reporter: Reporter,
    programs: Programs | None = None,
    stop_early: StopEarly | None = None,
    stop: StopRequest | None = None,
    profile: Profile | None = None,
) -> int:
    """Train to the end, from the newest checkpoint where there is one.

    Args:
        experiments: what to train: one, or several with the same programs and one `parallel` that
            trains so many together.
        runs: existing run directories of the same configs.
        reporter: where progress goes.
        programs: compiled ones of such an experiment; None: new ones.
        stop_early: called with a run, a step and its test accuracy after each evaluation; whether
            the run shall stop there; after the last step it is called, and does not count.
        stop: where signals are noted already; None: here.
        profile: traces some steps.

    Returns:
        Exit code: 0 done, 3 all diverged, 128 plus the number of the signal that stopped it.

    Raises:
        UserError: another process trains one of the runs, no checkpoint of it can be used, or one
            could not be saved.
    """
    with contextlib.ExitStack() as stack:
        for run in runs:
            stack.callback(run.unlock)
            run.lock()
        records = [stack.enter_context(Record(*p)) for p in zip(experiments, runs, strict=True)]
        stop = stop or stack.enter_context(StopRequest())
        agreement = stack.enter_context(Agreement(stop))
        programs = programs or Programs(experiments[0])
        stack.callback(experiments[0].inputs.close)
        loop = Loop(records, reporter, programs, agreement, stop_early)
        stop.last_words = loop.finish
        advance: Callable[[], None] = loop.advance
        if profile is not None:
            stack.callback(profile.close)
            advance = partial(profile.advance, loop)
        try:
            return _until_over_or_stopped(loop, advance, stop)
        except KeyboardInterrupt:
            loop.finish("interrupted")
            if jax.process_count() > 1:
                # The others do not know of it.
                raise
            return SIGNALS[signal.SIGINT][0]
        except BaseException as error:
            # On a full disk the status cannot be written either; the first error is the one to tell.
            with contextlib.suppress(UserError):
                loop.finish("failed", error=f"{type(error).__name__}: {error}")
            raise


def _until_over_or_stopped(loop: "Loop", advance: Callable[[], None], stop: StopRequest) -> int:
    """The loop itself; returns the exit code."""
    loop.begin()
    while loop.goes_on() and not loop.agreement.reached():
        advance()
        stop.defer()
        loop.log_and_evaluate_and_save()
    loop.save_if_behind()
    loop.wait()
    if stop.signal is None or loop.is_over():
        loop.finish("done")
        return DIVERGED if all(record.diverged for record in loop.records) else 0
    exit_code, state = SIGNALS[stop.signal]
    loop.finish(state)
    return exit_code


class EvaluationLeftError(Exception):
    """A signal came; the evaluation is done again by the process that goes on."""


class Loop:
    """The state of the runs in this process.

    Attributes:
        records: the written side of each run.
        step: optimiser steps done.
        state: placed on the devices.
        numbers: hyperparameters, placed.
    """

    def __init__(
        self,
        records: Sequence[Record],
        reporter: Reporter,
        programs: Programs,
        agreement: Agreement,
        stop_early: StopEarly | None = None,
    ) -> None:
        self.records, self.reporter, self.programs = records, reporter, programs
        self.agreement, self.stop_early = agreement, stop_early
        self.experiment = records[0].experiment
        self.seeds = tuple(record.experiment.config.seed for record in records)
        self.step = 0
        self.state: TrainState
        self.numbers: Any
        self.pending: deque[tuple[int, Any]] = deque()
        self.clock = Clock()

    @property
    def active(self) -> list[Record]:
        """Records of the runs that go on."""
        return [record for record in self.records if record.active]

    def begin(self) -> None:
        """Initialise or restore, all runs at one step."""
        parallel = self.experiment.parallel
        # A process that was killed may have saved some runs at a step and others not.
        saved = [{0, *record.checkpoints.steps()} for record in self.active or self.records]
        steps = sorted(set.intersection(*saved), reverse=True)
        self.step = steps[0]
        # Before any memory is taken, so that it is known what ran out of it.
        self._write_status("running")
        states = self._restore(steps)
        found = [line for record in self.records for line in record.begin(self.step)]
        self.state = parallel.place(states)
        self.numbers = parallel.stack([record.experiment.numbers for record in self.records])
        self.clock = Clock(len(self.records) * (self.active or self.records)[0].seconds)
        names = [str(record.run.path) for record in self.records]
        self.reporter.start(self.experiment, names, self.step)
        for line in found:
            self.reporter.console.print(printable(line))
        self.experiment.inputs.damaged.begin((self.active or self.records)[0].damaged_images())
        self._tell_damage(self.step)
        self._write_status("running")
        if self._evaluation_is_left():
            self._evaluate()

    def _restore(self, steps: Sequence[int]) -> list[TrainState]:
        """The states at the first of these steps at which no checkpoint is damaged."""
        for self.step in steps:
            damaged = [error for record in self.records for error in record.damaged.values()]
            if not self.step and damaged:
                raise all_damaged(damaged)
            restored = [record.restore(self.step, self.programs) for record in self.records]
            states = [state for state in restored if state is not None]
            if len(states) == len(restored):
                return states
        raise AssertionError("step 0 is initialised or refused")

    def goes_on(self) -> bool:
        """Whether there is a step left for any run."""
        return self.step < self.experiment.total_steps and bool(self.active)

    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        return not self.goes_on() and not self._evaluation_is_left()

    def advance(self) -> None:
        """One compiled call. The metrics of the one before are read meanwhile."""
        at_most = self.experiment.config.train.steps_per_call
        length = at_most if at_most <= self._steps_to_boundary() else 1
        try:
            own, shared = self.experiment.inputs.train(self.step, self.seeds)
        finally:
            self._tell_damage(self.step + 1)
        call = self.programs.training(length)
        self.state, metrics = call(self.state, self.numbers, own, shared)
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
            by_run = self.experiment.parallel.read(placed)
            for record, metrics in zip(self.records, by_run, strict=True):
                record.add(first, metrics, self._seconds())
            self.clock.add(int(by_run[0]["count"].sum()))
            if self.active:
                parts = [record.totals for record in self.active]
                totals = {name: sum(part[name] for part in parts) for name in NOTHING}
                self.reporter.step(self.step, means(totals), self.clock.rate())

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
        wait = e.inputs.take_wait() if log else {}
        speed = speed_of(e, self.clock.rate(), len(self.records)) if log else {}
        for record in self.active if log else ():
            self._tell(record, record.log_training(self.step, **speed, **wait))
        if log:
            self._write_status("running")
        if evaluate and self.active:
            self._evaluate()
        if save:
            self._save()
        self.clock.restart()

    def _evaluation_is_left(self) -> bool:
        e = self.experiment
        due = self.step == e.total_steps or is_due(self.step, e.evaluate_every)
        return due and any(self.step not in record.evaluations for record in self.active)

    def _evaluate(self) -> None:
        try:
            results = self.programs.evaluate(self.state, self.numbers, self._leave_if_stopped)
        except EvaluationLeftError:
            return
        finally:
            self._tell_damage(self.step)
        for record, result in zip(self.records, results, strict=True):
            if not record.active or self.step in record.evaluations:
                continue
            if result["loss"] is None:
                record.diverge(self.step, self._seconds(), "the evaluation is")
            else:
                self._tell(record, record.log_evaluation(self.step, result))
        if self.stop_early:
            self._stop_early(self.stop_early)

    def _leave_if_stopped(self) -> None:
        if self.agreement.reached():
            raise EvaluationLeftError

    def _tell_damage(self, step: int) -> None:
        for damage in self.experiment.inputs.damaged.take_new():
            self.reporter.warn(f"unreadable image: {damage}")
            for record in self.active:
                record.log_damage(step, damage)

    def _tell(self, record: Record, line: dict[str, Any]) -> None:
        self.reporter.event(line, record.run.path.name if len(self.records) > 1 else "")

    def _save(self) -> None:
        for index, record in enumerate(self.records):
            if record.active:
                self._save_run(index)

    def _save_run(self, index: int) -> None:
        state = self.experiment.parallel.take(self.state, index)
        self.records[index].save(self.step, state, self._seconds())

    def _stop_early(self, decide: StopEarly) -> None:
        ended = self.step == self.experiment.total_steps
        for index, record in enumerate(self.records):
            if not record.active or record.result is None:
                continue
            if decide(record.run, self.step, record.result["accuracy"]) and not ended:
                if record.saved_step < self.step:
                    self._save_run(index)
                if record.active:
                    record.stop(self.step, self._seconds())

    def save_if_behind(self) -> None:
        """Save what a stop before the next checkpoint would lose."""
        self._read_metrics()
        if any(record.saved_step < self.step for record in self.active):
            self._save()

    def wait(self) -> None:
        """Wait until the last saves are complete."""
        for record in self.records:
            record.checkpoints.wait()

    def _seconds(self) -> float:
        # Of runs that share the time each counts for its part.
        return self.clock.elapsed() / len(self.records)

    def _write_status(self, state: str, **facts: Any) -> None:
        for record in self.active:
            record.write_status(state, self.step, seconds=self._seconds(), **facts)

    def finish(self, state: str, **facts: Any) -> None:
        """Write the last status of the runs that went on to here."""
        try:
            self._write_status(state, **facts)
        finally:
            self.reporter.stop()
