"""A replica of the program on every device."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from resnet_jax.models import checked_jit
from resnet_jax.training.mesh import AXIS, share_of_process


class PmapReplicas:
    """A replica of the program per device; placed arrays have a leading device axis.

    Args:
        devices: of all processes, grouped by process.
    """

    axis_name: str | None = AXIS

    def __init__(self, devices: Sequence[jax.Device]) -> None:
        self.devices = devices
        self.num_devices = len(devices)
        self._mesh = Mesh(np.asarray(devices), (AXIS,), axis_types=(AxisType.Auto,))
        self._by_device = NamedSharding(self._mesh, PartitionSpec(AXIS))
        firsts = {device.process_index: device for device in reversed(devices)}
        self._first = NamedSharding(
            Mesh(np.asarray([firsts[index] for index in sorted(firsts)]), (AXIS,)), PartitionSpec()
        )

    def replicate(self, tree: Any) -> Any:
        """Every array on every device."""

        def one(array):
            host = np.asarray(array)[None]
            shape = (self.num_devices, *host.shape[1:])
            # A copy each: on CPU a device may use the host's buffer as its own, and donate it.
            return jax.make_array_from_callback(shape, self._by_device, lambda _: host.copy())

        return jax.tree.map(one, tree)

    def place(self, state: Any) -> Any:
        """A state, every array on every device."""
        return self.replicate(state)

    def state_shardings(self, shapes: Any) -> Any:
        """Every array of a state whole on the first device of each process."""
        return jax.tree.map(lambda _: self._first, shapes)

    def share(self, batch_size: int) -> slice:
        """Places in the batch that the devices of this process work on."""
        return share_of_process(self._mesh, batch_size)

    def split(self, tree: Any) -> Any:
        """The first axis of every array over the devices."""
        here = self._mesh.local_mesh.size

        def one(array):
            parts = np.reshape(array, (here, -1, *np.shape(array)[1:]))
            return jax.make_array_from_process_local_data(self._by_device, parts)

        return jax.tree.map(one, tree)

    def positions(self, batch_size: int) -> jax.Array:
        """Inside a compiled function: int32 places in the batch of this device's share."""
        share = batch_size // self.num_devices
        return lax.axis_index(AXIS) * share + jnp.arange(share, dtype=jnp.int32)

    def gather(self, weights: Any) -> Any:
        """The weights unchanged: each replica has them whole."""
        return weights

    def compile(
        self, function: Callable, inputs: str = "replicated", returns_state: bool = False
    ) -> Any:
        """See `Parallel`. `jax.pmap` compiles the same program, but takes no compiler options."""
        del inputs  # Placed arrays look alike here.

        def replica(*arguments: Any) -> Any:
            mine = jax.tree.map(lambda a: a[0], arguments)
            return jax.tree.map(lambda a: a[None], function(*mine))

        spec = PartitionSpec(AXIS)
        replicas = jax.shard_map(
            replica, mesh=self._mesh, in_specs=spec, out_specs=spec, check_vma=False
        )
        return checked_jit(replicas, donate_argnums=(0,) if returns_state else ())

    def take(self, tree: Any) -> Any:
        """One copy of what a compiled function returned: the first device's."""

        def one(array):
            copy = array.addressable_data(0)[0]
            return jax.make_array_from_single_device_arrays(copy.shape, self._first, [copy])

        return jax.tree.map(one, tree)

    def read(self, tree: Any) -> Any:
        """What a compiled function returned, as NumPy arrays."""
        return jax.tree.map(lambda a: np.asarray(a.addressable_data(0)[0]), tree)
