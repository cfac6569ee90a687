"""How a step meets the devices: one program over a mesh (`jit`), or a replica per device (`pmap`).

Both place arrays, compile functions and read results through the same methods; nothing else in the
package knows which is in use. A compiled function is called as `f(state, numbers, per_run, common)`:
a placed state, hyperparameters, and the two arguments of `data/inputs.py`. `sweeps/stacked.py` compiles
the same functions for several runs.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax

from resnet_jax.data.devices import Devices
from resnet_jax.errors import UserError, choose
from resnet_jax.training.mesh import JitMesh
from resnet_jax.training.replicas import PmapReplicas


class Parallel(Devices, Protocol):
    """What training knows of the devices.

    Attributes:
        axis_name: mapped axis over which gradients and metrics are combined; None: there is none.
        devices: in use, of all processes.
    """

    axis_name: str | None
    devices: Sequence[jax.Device]

    def place(self, state: Any) -> Any:
        """Place a state."""

    def state_shardings(self, shapes: Any) -> Any:
        """Where the arrays of one copy of a state lie, as `take` gives it and `place` takes it."""

    def gather(self, weights: Any) -> Any:
        """Inside a compiled function: sharded weights put together, for use in the network."""

    def compile(
        self, function: Callable, inputs: str = "replicated", returns_state: bool = False
    ) -> Any:
        """Compile `function(state, numbers, per_run, common)`.

        Args:
            function: returns metrics, or a new state and metrics.
            inputs: `replicated` or `split`: how `per_run` is placed.
            returns_state: it returns a state, which takes the memory of the old one.
        """

    def take(self, tree: Any) -> Any:
        """One copy of what a compiled function returned."""

    def read(self, tree: Any) -> Any:
        """What a compiled function returned, as NumPy arrays."""


MODES: dict[str, type[JitMesh] | type[PmapReplicas]] = {
    "jit": JitMesh,
    "pmap": PmapReplicas,
}


def make_parallel(
    mode: str, batch_statistics: str, num_devices: int | None = None, fsdp: int = 1
) -> JitMesh | PmapReplicas:
    """The placement of a config's `parallel` section.

    Raises:
        UserError: no such mode, more devices than there are, or fields that the mode does not have.
    """
    devices = _devices(num_devices)
    make = choose("parallel.mode", mode, MODES)
    choose("parallel.batch_statistics", batch_statistics, {"global": None, "per_device": None})
    if batch_statistics == "per_device" and mode != "pmap":
        raise UserError(
            "parallel.batch_statistics",
            batch_statistics,
            "parallel.mode 'jit' has only 'global'",
            "set parallel.mode to 'pmap'",
        )
    if fsdp == 1:
        return make(devices)
    if mode != "jit":
        raise UserError(
            "parallel.fsdp", fsdp, "parallel.mode 'pmap' has only 1", "set parallel.mode to 'jit'"
        )
    if len(devices) % fsdp:
        raise UserError("parallel.fsdp", fsdp, f"must divide the {len(devices)} devices")
    return JitMesh(devices, fsdp)


def _devices(num_devices: int | None) -> list[jax.Device]:
    """The first devices of every process, grouped by process."""
    available, processes = jax.devices(), jax.process_count()
    if num_devices is None:
        num_devices = len(available)
    if num_devices > len(available):
        raise UserError(
            "parallel.num_devices",
            num_devices,
            f"there are {len(available)} devices",
            "lower it, or simulate devices on CPU with "
            f"XLA_FLAGS=--xla_force_host_platform_device_count={num_devices}",
        )
    if num_devices % processes:
        raise UserError(
            "parallel.num_devices", num_devices, f"must be a multiple of the {processes} processes"
        )
    each = num_devices // processes
    of_process: dict[int, list[jax.Device]] = {index: [] for index in range(processes)}
    for device in available:
        of_process[device.process_index].append(device)
    return [device for devices in of_process.values() for device in devices[:each]]
