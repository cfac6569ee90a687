"""Checkpoints by Orbax: asynchronous saves, restore onto any devices, retention."""

import contextlib
import copy
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from resnet_jax.errors import UserError
from resnet_jax.training.hosts import exchange, is_first
from resnet_jax.training.integrity import checksums, difference, sealed, shapes, unsealed
from resnet_jax.training.open_directory import OpenDirectory
from resnet_jax.training.orbax_manager import SUPERSEDED, open_manager
from resnet_jax.training.retention import Evaluations, Kept
from resnet_jax.training.state import TrainState

FIELDS = ("step", "params", "batch_stats", "opt_state", "ema")
DELETED = "was deleted while it was read"
HANDLERS = {"state": ocp.StandardCheckpointHandler, "meta": ocp.JsonCheckpointHandler}
# `train` compares its config with config.json before anything else.
CHANGED_CONFIG = (
    "if config.json was edited, the `train` command that made the run lists the fields that differ: "
    "set them back"
)


class DamagedCheckpointError(UserError):
    """A checkpoint that is not what was saved.

    Args:
        path: of it.
        reason: the fault.
        fix: what to do.
    """

    def __init__(self, path: Path, reason: str, fix: str) -> None:
        super().__init__("checkpoint", str(path), f"is damaged ({reason})", fix)
        self.reason = reason


class NoCheckpointError(UserError):
    """A checkpoint that is not there, or that the run deleted while it was read."""


class Checkpoints:
    """The checkpoints of one run. A context manager: leaving it waits for the last save.

    Args:
        directory: `checkpoints/` of the run directory; need not exist unless `read_only`.
        evaluations: step → result with `accuracy`; read whenever checkpoints are compared.
        keep_last: newest checkpoints kept.
        keep_best: further ones kept by accuracy.
        read_only: never write or delete.

    Attributes:
        saved_step: of the newest checkpoint of this object that is on the disk, or None.

    Raises:
        UserError: it cannot be made or opened.
    """

    def __init__(
        self,
        directory: Path,
        evaluations: Evaluations,
        *,
        keep_last: int = 2,
        keep_best: int = 1,
        read_only: bool = False,
    ) -> None:
        self.directory = directory.absolute()
        self._open = OpenDirectory(self.directory, create=not read_only)
        self._kept = Kept(keep_last, keep_best, evaluations)
        self.saved_step: int | None = None
        self._saving: int | None = None
        if not read_only:
            self._delete_superseded()
        self._manager = open_manager(self._open.path, self._kept, self._note_saved, read_only)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, _: Any, error: BaseException | None, __: Any) -> None:
        if error is not None and jax.process_count() > 1:
            # To close would be to wait for processes that wait for this one, which ends now.
            return
        # After an error, a save that is under way may be good; that error is the one to report.
        with self._failures_told() if error is None else contextlib.suppress(Exception):
            self._manager.close()
            self._delete_superseded()
        self._open.close()

    def _note_saved(self) -> None:
        self.saved_step = self._saving

    def _delete_superseded(self) -> None:
        if is_first():
            shutil.rmtree(self._open.path / SUPERSEDED, ignore_errors=True)

    def latest(self) -> int | None:
        """Step of the newest checkpoint."""
        return self._manager.latest_step()

    def steps(self) -> list[int]:
        """Steps of all checkpoints."""
        return list(self._manager.all_steps())

    def forget_after(self, step: int) -> None:
        """Delete the checkpoints after `step`, which a resumed run writes again."""
        self._manager.reload()
        for later in [saved for saved in self.steps() if saved > step]:
            self._manager.delete(later)

    def save(self, step: int, state: TrainState, meta: Mapping[str, Any]) -> None:
        """Start to save; returns once the arrays are copied.

        The first save of this process is waited for and read back. Until that is done, all earlier
        checkpoints are kept.

        Args:
            step: number of the checkpoint.
            state: one copy of the state. Its buffers must not be donated later.
            meta: JSON-serialisable; comes back from `restore`.

        Raises:
            UserError: this save or the one before it failed, for want of disk space for example; or
                the first one cannot be read back.
        """
        self.wait()
        self._delete_superseded()
        tree = _tree(state)
        self._check_room(sum(leaf.nbytes for leaf in jax.tree.leaves(tree)))
        # The file is written in the background, while the caller keeps counting in its dicts.
        meta = copy.deepcopy(dict(meta))
        content = {"meta": meta, "shapes": shapes(tree), "checksums": checksums(tree)}
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(tree), meta=ocp.args.JsonSave(sealed(content))
        )
        self._saving = step
        with self._failures_told():
            self._manager.save(step, args=items)
        if not self._kept.readable:
            self.wait()
            self._read_back(step, state)

    def _read_back(self, step: int, state: TrainState) -> None:
        """Restore what was saved, as a resumed run would; then delete what need not be kept.

        Raises:
            UserError: it cannot be restored.
        """
        try:
            self.restore(step, state)
        except DamagedCheckpointError as error:
            raise UserError(
                "checkpoint",
                error.value,
                f"was saved and cannot be read back ({error.reason})",
                "earlier ones are kept; use another directory or file system",
            ) from error
        self._kept.readable = True
        for superseded in sorted(set(self.steps()) - self._kept.of(self.steps())):
            self._manager.delete(superseded)

    def _check_room(self, needed: int) -> None:
        with self._failures_told():
            free = shutil.disk_usage(self.directory).free
        if free < needed:
            reason = f"it needs {needed / 1e6:,.1f} MB, and {free / 1e6:,.1f} MB are free"
            raise self._save_failed(OSError(reason))

    def wait(self) -> None:
        """Wait until the last save is complete.

        Raises:
            UserError: it failed.
        """
        with self._failures_told():
            self._manager.wait_until_finished()

    @contextlib.contextmanager
    def _failures_told(self) -> Iterator[None]:
        try:
            yield
        except jax.errors.JaxRuntimeError:
            # A device's, or of a process that is lost: not the disk's.
            raise
        except (OSError, ValueError, RuntimeError) as error:
            raise self._save_failed(error) from error

    def _save_failed(self, error: Exception) -> UserError:
        # The file system may be one that cannot be read either.
        with contextlib.suppress(OSError):
            self._manager.reload()
        last = self.latest()
        kept = "there is no checkpoint yet" if last is None else f"the one of step {last} is good"
        reason = self._open.in_words(" ".join(str(error).split()))[:300]
        return UserError(
            "checkpoint",
            str(self.directory),
            f"could not be saved ({reason})",
            f"{kept}; make room there, or make it writable, and run the same command again",
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
            DamagedCheckpointError: it is not what was saved.
            NoCheckpointError: no such checkpoint, or the run deleted it meanwhile.
            UserError: it is of another model or optimiser.
        """
        if step not in self.steps():
            have = ", ".join(map(str, self.steps())) or "none"
            raise NoCheckpointError("checkpoint", step, f"{self.directory} has {have}")
        target = _target(like)
        content = self._read(step, "meta", ocp.args.JsonRestore())
        opened = unsealed(content)
        self._refuse_damaged(step, "" if opened else "the checksum of its metadata is wrong")
        assert opened is not None
        self._refuse_other_model(step, opened["shapes"], shapes(target))
        state = self._read(step, "state", ocp.args.StandardRestore(target))
        changed = difference(checksums(state), opened["checksums"])
        self._refuse_damaged(step, f"the checksum of {changed}" if changed else "")
        return TrainState(**state), opened["meta"]

    def _read(self, step: int, name: str, args: Any) -> Any:
        problem = ""
        try:
            item = self._read_item(step, name, args)
        # Orbax and TensorStore raise many types for a corrupt directory.
        except Exception as error:
            problem = self._in_short(error) if self._path(step).exists() else DELETED
        self._refuse_damaged(step, problem)
        return item

    def _path(self, step: int) -> Path:
        return self._open.path / str(step)

    def _refuse_damaged(self, step: int, problem: str) -> None:
        """Raise where any process has a problem, so that all resume from the same checkpoint."""
        problems = [text for text in exchange(problem) if text]
        if DELETED in problems:
            raise self._deleted(step)
        if problems:
            raise self._damaged(step, problems[0])

    def _read_item(self, step: int, name: str, args: Any) -> Any:
        # Not by the manager, whose processes wait for the one that cannot read.
        handler = HANDLERS[name]()
        try:
            return handler.restore(self._path(step) / name, args=args)
        finally:
            handler.close()

    def _in_short(self, error: Exception) -> str:
        said = self._open.in_words(" ".join(str(error).split()))
        return f"{type(error).__name__}: {said[:200]}"

    def _deleted(self, step: int) -> NoCheckpointError:
        path = str(self.directory / str(step))
        return NoCheckpointError("checkpoint", path, DELETED, "use a newer one")

    def _damaged(self, step: int, reason: str) -> DamagedCheckpointError:
        others = [other for other in self.steps() if other != step]
        have = f"there are also {', '.join(map(str, others))}" if others else "there is no other"
        return DamagedCheckpointError(self.directory / str(step), reason, have)

    def _refuse_other_model(
        self, step: int, saved: Mapping[str, str], expected: Mapping[str, str]
    ) -> None:
        if other := difference(saved, expected):
            raise UserError(
                "checkpoint",
                str(self.directory / str(step)),
                "is of another model or optimiser than config.json, which differs from what was trained "
                f"({other} as the config has it)",
                CHANGED_CONFIG,
            )


def _tree(state: TrainState) -> dict[str, Any]:
    return {name: getattr(state, name) for name in FIELDS}


def _target(like: TrainState) -> dict[str, Any]:
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding or device),
        _tree(like),
    )
