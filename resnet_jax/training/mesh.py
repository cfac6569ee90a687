"""One program over a mesh of all devices, and where its arrays lie."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from resnet_jax.models import checked_jit

AXIS = "data"
SHARD_AXIS = "fsdp"
# Smaller arrays are whole on every device: gathering them costs more than they take.
SMALLEST_SHARDED = 1024


class JitMesh:
    """One program over a `('data', 'fsdp')` mesh; XLA inserts the collectives.

    Batches are split over both axes. States are sharded over `fsdp` (`_state_spec`), all else is
    replicated. Reductions over a batch, batch statistics too, are over the whole batch.

    Args:
        devices: of all processes, grouped by process.
        fsdp: devices that a state is spread over; divides their number.
    """

    axis_name: str | None = None

    def __init__(self, devices: Sequence[jax.Device], fsdp: int = 1) -> None:
        self.devices, self.num_devices, self.fsdp = devices, len(devices), fsdp
        grid = np.asarray(devices).reshape(-1, fsdp)
        self.mesh = Mesh(grid, (AXIS, SHARD_AXIS), axis_types=(AxisType.Auto,) * 2)
        self._replicated = NamedSharding(self.mesh, PartitionSpec())
        self._split = NamedSharding(self.mesh, PartitionSpec((AXIS, SHARD_AXIS)))

    def replicate(self, tree: Any) -> Any:
        """Every array on every device."""
        return jax.tree.map(lambda array: put(array, self._replicated), tree)

    def place(self, state: Any) -> Any:
        """A state, sharded."""
        return jax.tree.map(put, state, self.state_shardings(state))

    def state_shardings(self, shapes: Any) -> Any:
        """Where the arrays of a state lie."""
        return jax.tree.map(
            lambda a: NamedSharding(self.mesh, _state_spec(a.shape, self.fsdp)), shapes
        )

    def share(self, batch_size: int) -> slice:
        """Places in the batch that the devices of this process work on."""
        return share_of_process(self.mesh, batch_size)

    def split(self, tree: Any) -> Any:
        """The first axis of every array over the devices."""
        return jax.tree.map(
            lambda array: jax.make_array_from_process_local_data(self._split, np.asarray(array)),
            tree,
        )

    def positions(self, batch_size: int) -> jax.Array:
        """Inside a compiled function: int32 places in the batch, split over the devices."""
        return lax.with_sharding_constraint(jnp.arange(batch_size, dtype=jnp.int32), self._split)

    def gather(self, weights: Any) -> Any:
        """Inside a compiled function: sharded weights put together on every device.

        Without it XLA may split a convolution by its filters and move images instead.
        """
        if self.fsdp == 1:
            return weights
        return lax.with_sharding_constraint(weights, self._replicated)

    def compile(
        self, function: Callable, inputs: str = "replicated", returns_state: bool = False
    ) -> Any:
        """See `Parallel`; metrics are replicated."""
        everywhere = self._replicated
        per_run = {"replicated": everywhere, "split": self._split}[inputs]

        def sharded(*arguments: Any) -> Any:
            if not returns_state:
                return function(*arguments)
            state, metrics = function(*arguments)
            shardings = self.state_shardings(state)
            return jax.tree.map(lax.with_sharding_constraint, state, shardings), metrics

        # None: a state stays as it was placed.
        return checked_jit(
            sharded,
            in_shardings=(None, everywhere, per_run, everywhere),
            out_shardings=(None, everywhere) if returns_state else everywhere,
            donate_argnums=(0,) if returns_state else (),
        )

    def take(self, tree: Any) -> Any:
        """One copy of what a compiled function returned."""
        return tree

    def read(self, tree: Any) -> Any:
        """What a compiled function returned, as NumPy arrays."""
        return jax.device_get(tree)


def _state_spec(shape: tuple[int, ...], fsdp: int) -> PartitionSpec:
    """The largest axis that `fsdp` divides is sharded, the first of equals; small arrays are not."""
    divisible = [size if size % fsdp == 0 else 0 for size in shape]
    if fsdp == 1 or math.prod(shape) < SMALLEST_SHARDED or not any(divisible):
        return PartitionSpec()
    axis = divisible.index(max(divisible))
    return PartitionSpec(*[None] * axis, SHARD_AXIS)


def put(array: Any, sharding: NamedSharding) -> jax.Array:
    """Place an array that every process has whole."""
    if sharding.is_fully_addressable or getattr(array, "sharding", None) == sharding:
        return jax.device_put(array, sharding)
    # `device_put` would compare the array over all processes.
    host = np.asarray(array)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def share_of_process(mesh: Mesh, batch_size: int) -> slice:
    """Places in a batch, split over the mesh, that the devices of this process work on."""
    devices = list(mesh.devices.flat)
    mine = [place for place, d in enumerate(devices) if d.process_index == jax.process_index()]
    each = batch_size // len(devices)
    return slice(mine[0] * each, (mine[-1] + 1) * each)
