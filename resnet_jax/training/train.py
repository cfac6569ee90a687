"""Training a run: its files opened, signals noted, the loop run, and its end written down."""

import contextlib
import signal

import jax

from resnet_jax.errors import UserError
from resnet_jax.training.experiment import Experiment
from resnet_jax.training.hosts import Agreement
from resnet_jax.training.interruption import SIGNALS, StopRequest
from resnet_jax.training.loop import Loop
from resnet_jax.training.profile import Profile
from resnet_jax.training.progress import Lines, Reporter
from resnet_jax.training.record import Record, StopEarly
from resnet_jax.training.run_directory import RunDirectory

DIVERGED = 3


def train(
    experiment: Experiment,
    run: RunDirectory,
    reporter: Reporter,
    stop_early: StopEarly | None = None,
    stop: StopRequest | None = None,
    profile: Profile | None = None,
) -> int:
    """Train to the end, from the newest checkpoint where there is one.

    Args:
        experiment: what to train.
        run: existing run directory of the same config.
        reporter: where progress goes.
        stop_early: asked after each evaluation, see `StopEarly`.
        stop: where signals are noted already; None: here.
        profile: traces some steps.

    Returns:
        Exit code: 0 done, 3 diverged, 128 plus the number of the signal that stopped it.

    Raises:
        UserError: another process trains the run, none of its checkpoints can be used, or one could not be
            saved.
    """
    with run.locked(), Record(experiment, run, [Lines(reporter)]) as record:
        return train_recorded(experiment, record, reporter, stop_early, stop, profile)


def train_recorded(
    experiment: Experiment,
    record: Record,
    reporter: Reporter,
    stop_early: StopEarly | None = None,
    stop: StopRequest | None = None,
    profile: Profile | None = None,
) -> int:
    """`train`, with the files of the run open."""
    with contextlib.ExitStack() as stack:
        stop = stop or stack.enter_context(StopRequest())
        agreement = stack.enter_context(Agreement(stop))
        stack.callback(experiment.inputs.close)
        loop = Loop(experiment, record, reporter, agreement.reached, stop_early, profile)
        stack.enter_context(stop.saying(loop.finish))
        if profile is not None:
            stack.callback(profile.close)
        try:
            return _until_over_or_stopped(loop, stop)
        except KeyboardInterrupt:
            loop.finish("interrupted")
            if jax.process_count() > 1:
                # The others do not know of it.
                raise
            return SIGNALS[signal.SIGINT][0]
        except BaseException as error:
            # On a full disk the status cannot be written either; the first error is the one to report.
            with contextlib.suppress(UserError):
                loop.finish("failed", error=f"{type(error).__name__}: {error}")
            raise


def _until_over_or_stopped(loop: Loop, stop: StopRequest) -> int:
    """Run the loop; returns the exit code."""
    loop.begin()
    while loop.goes_on() and not loop.is_stopped():
        loop.advance()
        stop.defer()
        loop.log_and_evaluate_and_save()
    loop.save_if_behind()
    loop.record.wait()
    if stop.signal is None or loop.is_over():
        loop.finish("done")
        return DIVERGED if loop.record.diverged else 0
    exit_code, state = SIGNALS[stop.signal]
    loop.finish(state)
    return exit_code
