"""Orbax's manager of checkpoints, set up to survive power cuts and to fail in one line."""

import asyncio
import functools
import inspect
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

from resnet_jax.files import flush, flush_tree
from resnet_jax.training.retention import Kept

# Of checkpoints that are kept no more: they vanish whole from where they are read, and are deleted here.
SUPERSEDED = "superseded"


def open_manager(
    directory: Path, kept: Kept, note_saved: Callable[[], None], read_only: bool
) -> ocp.CheckpointManager:
    """The manager of a directory.

    Args:
        directory: with a name that Orbax takes (`open_directory.py`).
        kept: which checkpoints are kept.
        note_saved: called when a checkpoint is on the disk.
        read_only: never write or delete.
    """
    _silence_abandoned_requests()
    # What is logged there is also raised, and reported in one line.
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    options = ocp.CheckpointManagerOptions(
        preservation_policy=kept,
        cleanup_tmp_directories=not read_only,
        temporary_path_class=DurablePath,
        todelete_subdir=SUPERSEDED,
        async_options=ocp.AsyncOptions(
            post_finalization_callback=note_saved,
            # Where that fails, threads of Orbax would wait ten minutes for a directory.
            create_directories_asynchronously=False,
            barrier_sync_fn=_meet_without_error,
        ),
        read_only=read_only,
        # Nothing in a checkpoint is read before it is known to be good.
        lightweight_initialize=True,
    )
    return ocp.CheckpointManager(directory, options=options)


class DurablePath(ocp.path.atomicity.AtomicRenameTemporaryPath):
    """A directory that gets its name when all of its content is on the disk."""

    async def finalize(self) -> None:
        await asyncio.to_thread(flush_tree, Path(self.get()))
        await super().finalize()
        # What Orbax wrote last is not needed to restore.
        await asyncio.to_thread(flush_tree, Path(self.get_final()))
        await asyncio.to_thread(flush, Path(self.get_final()).parent)


def _meet_without_error(*, key: str, timeout_ms: int) -> None:
    """Orbax's barrier, where a process with an error does not wait for the others.

    Orbax would raise the error after the barrier, where the others do not come before this process
    has saved.
    """
    if (error := sys.exception()) is not None:
        raise error
    ocp.multihost.get_barrier_sync_fn()(key=key, timeout_ms=timeout_ms)


@functools.cache
def _silence_abandoned_requests() -> None:
    """Keep quiet about the requests that TensorStore has under way when one of them fails.

    Each would print a traceback over the one line that says what failed.
    """
    previous = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        abandoned = str(unraisable.exc_value) == "Event loop is closed"
        if not (abandoned or inspect.iscoroutine(unraisable.object)):
            previous(unraisable)

    sys.unraisablehook = hook
