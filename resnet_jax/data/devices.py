"""What the data need to know of the devices; `training/parallel.py` supplies it."""

from typing import Any, Protocol

import jax


class Devices(Protocol):
    """Where the arguments of a compiled function go.

    Attributes:
        num_devices: over which a batch is split, of all processes.
    """

    num_devices: int

    def replicate(self, tree: Any) -> Any:
        """Place every array on every device."""

    def positions(self, batch_size: int) -> jax.Array:
        """Inside a compiled function: int32 places in the batch (of this device's share)."""


class SplittingDevices(Devices, Protocol):
    """Devices to which a process sends parts of a batch."""

    def split(self, tree: Any) -> Any:
        """Place a batch, of which each process gives its `share`."""

    def share(self, batch_size: int) -> slice:
        """Places in the batch that the devices of this process work on."""
