"""The training loop: one state, moved step by step, and what is due between steps."""

import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any

import jax

from resnet_jax.errors import printable
from resnet_jax.training.clock import Clock
from resnet_jax.training.experiment import Experiment
from resnet_jax.training.profile import Profile
from resnet_jax.training.programs import means
from resnet_jax.training.progress import Reporter
from resnet_jax.training.record import Record, StopEarly


class Loop:
    """A run in this process: its step, its placed `state` and `numbers`, and its clock.

    Args:
        experiment: what is trained.
        record: its files, open.
        reporter, stop_early, profile: as of `train`.
        is_stopped: asked before each call to the devices.
    """

    def __init__(
        self,
        experiment: Experiment,
        record: Record,
        reporter: Reporter,
        is_stopped: Callable[[], bool] = lambda: False,
        stop_early: StopEarly | None = None,
        profile: Profile | None = None,
    ) -> None:
        self.experiment, self.record, self.reporter = experiment, record, reporter
        self.is_stopped, self._stop_early, self._profile = is_stopped, stop_early, profile
        self.step, self.clock = 0, Clock()
        self.state: Any = None
        self.numbers: Any = None
        self._pending: deque[tuple[int, Any]] = deque()

    def begin(self) -> None:
        """Initialise or restore."""
        record, steps = self.record, self.record.saved_steps()
        self.step = steps[0]
        # Before any memory is taken, so that it is known what ran out of it.
        self._write_status("running")
        state = None
        for self.step in steps:
            if (state := record.restore(self.step)) is not None:
                break
        self.clock = Clock(record.seconds)
        found = record.begin(self.step, self.clock)
        self.state = self.experiment.parallel.place(state)
        self.numbers = self.experiment.placed_numbers()
        self.reporter.start(self.experiment, record.names, self.step)
        for line in found:
            self.reporter.console.print(printable(line))
        self.experiment.inputs.damaged.begin(record.damaged_images())
        self._report_damage(self.step)
        self._write_status("running")
        if self._evaluation_is_left():
            self._evaluate()

    def goes_on(self) -> bool:
        """Whether there is a step left."""
        return self.step < self.experiment.total_steps and self.record.active

    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        return not self.goes_on() and not self._evaluation_is_left()

    def advance(self) -> None:
        """One compiled call. The metrics of the one before are read meanwhile."""
        e, length = self.experiment, self.experiment.call_length(self.step)
        with self._traced(length):
            try:
                arguments = e.train_arguments(self.step)
            finally:
                self._report_damage(self.step + 1)
            call = e.programs.training(length)
            self.state, metrics = call(self.state, self.numbers, *arguments)
            self._pending.append((self.step, metrics))
            self.step += length
            self._read_metrics(leave=1)

    def _traced(self, length: int) -> contextlib.AbstractContextManager[None]:
        if self._profile is None:
            return contextlib.nullcontext()
        return self._profile.around(self.step, length, lambda: jax.block_until_ready(self.state))

    def _read_metrics(self, leave: int = 0) -> None:
        while len(self._pending) > leave:
            first, placed = self._pending.popleft()
            metrics = self.experiment.parallel.read(placed)
            self.clock.add(self.record.add(first, metrics))
            if self.record.active:
                self.reporter.step(self.step, means(self.record.totals), self.clock.rate())

    def log_and_evaluate_and_save(self) -> None:
        """Do what is due at this step; all of it at the end."""
        due = self.experiment.due(self.step)
        if not any(due):
            return
        self._read_metrics()
        if due.log:
            wait = self.experiment.inputs.take_wait()
            self.record.log_training(self.step, self.clock.rate(), wait)
            self._write_status("running")
        if due.evaluate and self.record.active:
            self._evaluate()
        if due.save:
            self.record.save(self.step, self.state)
        self.clock.restart()

    def _evaluation_is_left(self) -> bool:
        due = self.experiment.due(self.step).evaluate
        return due and not self.record.is_evaluated(self.step)

    def _evaluate(self) -> None:
        evaluate = self.experiment.programs.evaluate
        try:
            metrics = evaluate(self.state, self.numbers, self.is_stopped)
        finally:
            self._report_damage(self.step)
        if metrics is None:
            # A signal came; the process that resumes the run repeats the evaluation.
            return
        self.record.log_evaluation(self.step, metrics)
        if self._stop_early:
            self.record.stop_if(self._stop_early, self.step, self.state)

    def _report_damage(self, step: int) -> None:
        for damage in self.experiment.inputs.damaged.take_new():
            self.reporter.warn(f"unreadable image: {damage}")
            self.record.log_damage(step, damage)

    def save_if_behind(self) -> None:
        """Save what a stop before the next checkpoint would lose."""
        self._read_metrics()
        if self.record.saved_step < self.step:
            self.record.save(self.step, self.state)

    def _write_status(self, state: str, **facts: Any) -> None:
        if self.record.active:
            self.record.write_status(state, self.step, **facts)

    def finish(self, state: str, **facts: Any) -> None:
        """Write the last status, if the run went on to here."""
        try:
            self._write_status(state, **facts)
        finally:
            self.reporter.stop()
