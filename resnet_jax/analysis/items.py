"""One function over many items: compiled once, over all devices, resumable."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from resnet_jax.console import Bar
from resnet_jax.files import open_file, replaced
from resnet_jax.models import checked_jit
from resnet_jax.training.interruption import deferred

SAVE_SECONDS = 15.0
Arrays = dict[str, Any]


def over_items(
    function: Callable[[Any, Any], Arrays],
    shared: Any,
    items: Any,
    *,
    together: int = 1,
    per_call: int = 1,
    label: str = "",
    kept: Path | None = None,
) -> dict[str, np.ndarray]:
    """`function(shared, item)` of every item.

    The items are split over the devices; on each, they come one after the other in one compiled loop.
    What all items see is an argument of the program, so that it holds no weights.

    Args:
        function: of arrays, returns a dict of arrays; traced.
        shared: tree of arrays that all items see, replicated.
        items: tree of arrays with a leading axis over the items.
        together: how many each device computes at once, by `jax.vmap`.
        per_call: how many each device computes between two moves of the progress bar; at least
            `together`.
        label: of the progress bar; empty: there is none.
        kept: a file of the finished items, from which the same call resumes; its name must identify
            everything that the result depends on. It is not removed.

    Returns:
        What the function returns, as NumPy arrays with a leading axis over the items.
    """
    count = _length(items)
    devices = np.array(jax.devices()[:count])
    mesh = Mesh(devices, ("item",), axis_types=(AxisType.Auto,))
    split, everywhere = PartitionSpec("item"), PartitionSpec()
    # Arrays of a checkpoint are bound to one device.
    shared = jax.device_put(shared, NamedSharding(mesh, everywhere))

    @checked_jit
    @partial(
        jax.shard_map, mesh=mesh, in_specs=(everywhere, split), out_specs=split, check_vma=False
    )
    def compute(shared: Any, items: Any) -> Arrays:
        return lax.map(partial(function, shared), items, batch_size=together)

    size = min(max(per_call, together), -(-count // len(devices))) * len(devices)
    parts = _read(kept)
    saved = time.monotonic()
    with deferred() as stop, Bar(label, count) as bar:
        try:
            for start in range(sum(map(_length, parts)), count, size):
                if stop.signal is not None:
                    break
                bar.move(start)
                # The last call repeats its last item, so that all calls have one shape.
                rows = np.minimum(np.arange(start, start + size), count - 1)
                result = compute(shared, jax.tree.map(lambda a, rows=rows: a[rows], items))
                new = min(size, count - start)
                parts.append({name: np.asarray(a)[:new] for name, a in result.items()})
                if kept is not None and time.monotonic() - saved > SAVE_SECONDS:
                    _write(kept, parts)
                    saved = time.monotonic()
            else:
                bar.move(count)
        finally:
            if kept is not None and parts:
                _write(kept, parts)
    return _joined(parts)


def _length(tree: Any) -> int:
    return len(jax.tree.leaves(tree)[0])


def _joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _read(path: Path | None) -> list[dict[str, np.ndarray]]:
    if path is None:
        return []
    try:
        with open_file(path) as file, np.load(file, allow_pickle=False) as arrays:
            return [dict(arrays)]
    # None yet, or a corrupt one, which can fail in any way: its items are computed again.
    except Exception:
        return []


def _write(path: Path, parts: list[dict[str, np.ndarray]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as file:
        arrays: Any = _joined(parts)
        np.savez(file, **arrays)
