"""Checkpoints by Orbax: asynchronous saves, restore onto any devices, retention."""

import functools
import inspect
import logging
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from resnet_jax.errors import UserError
from resnet_jax.training.state import TrainState

FIELDS = ("step", "params", "batch_stats", "opt_state", "ema")


def _accuracy(metrics: Mapping[str, float]) -> float:
    return metrics["accuracy"]


class Checkpoints:
    """The checkpoints of one run. A context manager: leaving it waits for the last save.

    Args:
        directory: `checkpoints/` of the run directory; need not exist unless `read_only`.
        keep_last: newest checkpoints kept.
        keep_best: further ones kept by accuracy.
        read_only: never write or delete.
    """

    def __init__(
        self, directory: Path, *, keep_last: int = 2, keep_best: int = 1, read_only: bool = False
    ) -> None:
        _silence_abandoned_requests()
        # What is logged there is also raised; we tell it in one line.
        for name in ("absl", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self.directory = directory.absolute()
        best = checkpoint_managers.BestN(
            get_metric_fn=_accuracy, n=keep_best, keep_checkpoints_without_metrics=False
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=checkpoint_managers.AnyPreservationPolicy(
                [checkpoint_managers.LatestN(keep_last), best]
            ),
            best_fn=_accuracy,
            cleanup_tmp_directories=not read_only,
            read_only=read_only,
            create=not read_only,
        )
        self._manager = ocp.CheckpointManager(self.directory, options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: Any) -> None:
        self._manager.close()

    def latest(self) -> int | None:
        """Step of the newest checkpoint."""
        return self._manager.latest_step()

    def best(self) -> int | None:
        """Step of the checkpoint with the highest accuracy, of those saved with one."""
        scored = [s for s in self._manager.all_steps() if self._manager.metrics(s)]
        return max(scored, key=lambda s: (_accuracy(self._manager.metrics(s)), s), default=None)

    def steps(self) -> list[int]:
        """Steps of all checkpoints."""
        return list(self._manager.all_steps())

    def forget_after(self, step: int) -> None:
        """Delete the checkpoints behind `step`, which a resumed run writes again."""
        for later in [saved for saved in self.steps() if saved > step]:
            self._manager.delete(later)

    def save(
        self, step: int, state: TrainState, meta: Mapping[str, Any], accuracy: float | None
    ) -> None:
        """Start to save; returns once the arrays are copied.

        Args:
            step: number of the checkpoint.
            state: one copy of the state. Its buffers must not be donated later.
            meta: JSON-serialisable; comes back from `restore`.
            accuracy: of an evaluation at this step, or None.

        Raises:
            UserError: this save or the one before it failed, for want of disk space for example.
        """
        tree = {name: getattr(state, name) for name in FIELDS}
        self._check_room(sum(leaf.nbytes for leaf in jax.tree.leaves(tree)))
        items = ocp.args.Composite(state=ocp.args.StandardSave(tree), meta=ocp.args.JsonSave(meta))
        metrics = None if accuracy is None else {"accuracy": accuracy}
        try:
            self._manager.save(step, args=items, metrics=metrics)
        except (OSError, ValueError, RuntimeError) as error:
            raise self._save_failed(error) from error

    def _check_room(self, needed: int) -> None:
        free = shutil.disk_usage(self.directory).free
        if free < needed:
            reason = f"it needs {needed / 1e6:,.1f} MB, and {free / 1e6:,.1f} MB are free"
            raise self._save_failed(OSError(reason))

    def wait(self) -> None:
        """Wait until the last save is complete.

        Raises:
            UserError: it failed.
        """
        try:
            self._manager.wait_until_finished()
        except (OSError, ValueError, RuntimeError) as error:
            raise self._save_failed(error) from error

    def _save_failed(self, error: Exception) -> UserError:
        self._manager.reload()
        last = self.latest()
        kept = "there is no checkpoint yet" if last is None else f"the one of step {last} is good"
        reason = " ".join(str(error).split())[:300]
        return UserError(
            "checkpoint",
            str(self.directory),
            f"could not be saved ({reason})",
            f"{kept}; make room there and run the same command to go on",
        )

    def restore(self, step: int, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """A saved state, whatever devices it was saved from.

        Args:
            step: number of the checkpoint.
            like: shapes and types of the state, and shardings (`Experiment.state_shapes`); without
                these it comes to the first device.

        Returns:
            The state and what was saved as `meta`.

        Raises:
            UserError: no such checkpoint, a damaged one, or one of another model or optimiser.
        """
        if step not in self.steps():
            have = ", ".join(map(str, self.steps())) or "none"
            raise UserError("checkpoint", step, f"{self.directory} has {have}")
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        target = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding or device),
            {name: getattr(like, name) for name in FIELDS},
        )
        items = ocp.args.Composite(
            state=ocp.args.StandardRestore(target), meta=ocp.args.JsonRestore()
        )
        try:
            restored = self._manager.restore(step, args=items)
        # Orbax and TensorStore raise many types for a damaged or foreign directory.
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                "checkpoint",
                str(self.directory / str(step)),
                f"is damaged or of another model ({type(error).__name__}: {reason})",
                "remove that directory to go on from the one before it",
            ) from error
        return TrainState(**restored.state), restored.meta


@functools.cache
def _silence_abandoned_requests() -> None:
    """Keep quiet about the requests that TensorStore has under way when one of them fails.

    Each would print a traceback of its own over the one line that tells what failed.
    """
    previous = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        abandoned = str(unraisable.exc_value) == "Event loop is closed"
        if not (abandoned or inspect.iscoroutine(unraisable.object)):
            previous(unraisable)

    sys.unraisablehook = hook
