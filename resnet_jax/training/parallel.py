"""How a step meets the devices: one program over a mesh (`jit`), or a replica per device (`pmap`).

Both place arrays, compile functions and read results through the same methods; nothing else in the
package knows which is in use. A compiled function is called as `f(state, numbers, own, shared)` with
arrays that `stack`, `split` (both: of each run) or `replicate` (shared by all runs) placed, and
returns arrays that `read` and `take` give back for each run. Here there is one run; in
`sweeps/together.py` there are several.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from resnet_jax.errors import UserError, choose

AXIS = "data"


class Parallel(Protocol):
    """What the rest of the package knows of the devices.

    Attributes:
        axis_name: mapped axis over which gradients and metrics are combined; None: there is none.
        num_devices: over which a batch is split.
    """

    axis_name: str | None
    num_devices: int

    def replicate(self, tree: Any) -> Any:
        """Place arrays that all runs share."""

    def stack(self, trees: Sequence[Any]) -> Any:
        """Place a tree for each run."""

    def split(self, tree: Any) -> Any:
        """Place a batch."""

    def positions(self, batch_size: int) -> jax.Array:
        """Inside a compiled function: int32 places in the batch (of this device's share)."""

    def compile(self, function: Callable, inputs: str = "replicated", donate: bool = False) -> Any:
        """Compile `function(state, numbers, own, shared)` of one run.

        Args:
            function: of a placed state, hyperparameters, and arguments as of `inputs.py`.
            inputs: `replicated` or `split`: how `own` is placed.
            donate: the state is given up, so that its memory serves the result.
        """

    def take(self, tree: Any, run: int = 0) -> Any:
        """One copy of what a compiled function returned for a run."""

    def read(self, tree: Any) -> list[Any]:
        """What a compiled function returned, as NumPy arrays for each run."""


class JitMesh:
    """One program over a `('data',)` mesh; XLA inserts the collectives.

    Batches are split over the mesh, all else is replicated. Reductions over a batch, batch
    statistics too, are over the whole batch.
    """

    axis_name: str | None = None

    def __init__(self, devices: Sequence[jax.Device]) -> None:
        self.num_devices = len(devices)
        self.mesh = Mesh(np.asarray(devices), (AXIS,), axis_types=(AxisType.Auto,))
        self._replicated = NamedSharding(self.mesh, PartitionSpec())
        self._split = NamedSharding(self.mesh, PartitionSpec(AXIS))

    def replicate(self, tree: Any) -> Any:
        """Every array on every device."""
        return jax.device_put(tree, self._replicated)

    def stack(self, trees: Sequence[Any]) -> Any:
        """A tree for each run, every array on every device."""
        (tree,) = trees
        return self.replicate(tree)

    def split(self, tree: Any) -> Any:
        """The first axis of every array over the devices."""
        return jax.device_put(tree, self._split)

    def positions(self, batch_size: int) -> jax.Array:
        """Inside a compiled function: int32 places in the batch, split over the devices."""
        return lax.with_sharding_constraint(jnp.arange(batch_size, dtype=jnp.int32), self._split)

    def compile(self, function: Callable, inputs: str = "replicated", donate: bool = False) -> Any:
        """See `Parallel`; results are replicated."""
        everywhere = self._replicated
        own = {"replicated": everywhere, "split": self._split}[inputs]
        return jax.jit(
            function,
            in_shardings=(everywhere, everywhere, own, everywhere),
            out_shardings=everywhere,
            donate_argnums=(0,) if donate else (),
        )

    def take(self, tree: Any, run: int = 0) -> Any:
        """One copy of what a compiled function returned for a run."""
        return tree

    def read(self, tree: Any) -> list[Any]:
        """What a compiled function returned, as NumPy arrays for each run."""
        return [jax.device_get(tree)]


class PmapReplicas:
    """A replica of the program per device; placed arrays have a leading device axis."""

    axis_name: str | None = AXIS

    def __init__(self, devices: Sequence[jax.Device]) -> None:
        self.devices = list(devices)
        self.num_devices = len(devices)
        mesh = Mesh(np.asarray(devices), (AXIS,), axis_types=(AxisType.Auto,))
        self._by_device = NamedSharding(mesh, PartitionSpec(AXIS))

    def replicate(self, tree: Any) -> Any:
        """Every array on every device."""

        def one(array):
            host = np.asarray(array)[None]
            shape = (self.num_devices, *host.shape[1:])
            # A copy each: on CPU a device may use the host's buffer as its own, and donate it.
            return jax.make_array_from_callback(shape, self._by_device, lambda _: host.copy())

        return jax.tree.map(one, tree)

    def stack(self, trees: Sequence[Any]) -> Any:
        """A tree for each run, every array on every device."""
        (tree,) = trees
        return self.replicate(tree)

    def split(self, tree: Any) -> Any:
        """The first axis of every array over the devices."""

        def one(array):
            return np.reshape(array, (self.num_devices, -1, *np.shape(array)[1:]))

        return jax.device_put(jax.tree.map(one, tree), self._by_device)

    def positions(self, batch_size: int) -> jax.Array:
        """Inside a compiled function: int32 places in the batch of this device's share."""
        share = batch_size // self.num_devices
        return lax.axis_index(AXIS) * share + jnp.arange(share, dtype=jnp.int32)

    def compile(self, function: Callable, inputs: str = "replicated", donate: bool = False) -> Any:
        """See `Parallel`."""
        del inputs  # Placed arrays look alike here.
        donated = (0,) if donate else ()
        return jax.pmap(function, AXIS, devices=self.devices, donate_argnums=donated)

    def take(self, tree: Any, run: int = 0) -> Any:
        """One copy of what a compiled function returned for a run: that of the first device."""
        return jax.tree.map(lambda a: a.addressable_data(0)[0], tree)

    def read(self, tree: Any) -> list[Any]:
        """What a compiled function returned, as NumPy arrays for each run."""
        return [jax.device_get(self.take(tree))]


MODES: dict[str, Callable[[Sequence[jax.Device]], Parallel]] = {
    "jit": JitMesh,
    "pmap": PmapReplicas,
}


def make_parallel(mode: str, batch_statistics: str, num_devices: int | None = None) -> Parallel:
    """The placement of a config's `parallel` section.

    Raises:
        UserError: no such mode, more devices than there are, or statistics that the mode has not.
    """
    available = jax.devices()
    if num_devices is not None and num_devices > len(available):
        raise UserError(
            "parallel.num_devices",
            num_devices,
            f"there are {len(available)} devices",
            "lower it, or simulate devices on CPU with "
            f"XLA_FLAGS=--xla_force_host_platform_device_count={num_devices}",
        )
    make = choose("parallel.mode", mode, MODES)
    choose("parallel.batch_statistics", batch_statistics, {"global": None, "per_device": None})
    if batch_statistics == "per_device" and mode != "pmap":
        raise UserError(
            "parallel.batch_statistics",
            batch_statistics,
            "parallel.mode 'jit' has only 'global'",
            "set parallel.mode to 'pmap'",
        )
    return make(available[:num_devices])
