"""How one program trains several runs: their states stacked along a leading axis.

Each layout has the methods of `training/parallel.py`, so that the compiled functions are the same. Nothing
passes between runs: each has its own data order, augmentation, schedule and statistics.

    vmap   all runs at once on one device; for small nets on a GPU or TPU
    map    one run after the other inside the program (`lax.map`), on one device
    shard  the runs are spread over all devices (`shard_map`), without any communication; the runs of
           one device by `vmap`, or by `map` on a CPU, which is slow at grouped convolutions
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from resnet_jax.models import checked_jit

AXIS = "run"
RUNS, SHARED = PartitionSpec(AXIS), PartitionSpec()


def _vmap(function: Callable, state: Any, numbers: Any, per_run: Any, common: Any) -> Any:
    return jax.vmap(function, (0, 0, 0, None))(state, numbers, per_run, common)


def _map(function: Callable, state: Any, numbers: Any, per_run: Any, common: Any) -> Any:
    return lax.map(lambda run: function(*run, common), (state, numbers, per_run))


class RunsTogether:
    """Several runs in one program, over a `('run',)` mesh.

    Args:
        num_runs: how many.
        devices: the runs are spread over them.
        by_map: the runs of a device take turns instead of being one batch.
    """

    axis_name: str | None = None
    # A batch is not split.
    num_devices = 1

    def __init__(self, num_runs: int, devices: Sequence[jax.Device], by_map: bool) -> None:
        self.num_runs = num_runs
        self._available, self._by_map = devices, by_map
        self.devices = devices = devices[:num_runs]
        self._num_places = len(devices)
        self._several = _map if by_map else _vmap
        self._mesh = Mesh(np.asarray(devices), (AXIS,), axis_types=(AxisType.Auto,))
        self._by_run = NamedSharding(self._mesh, RUNS)
        self._shared = NamedSharding(self._mesh, SHARED)
        self._first = jax.sharding.SingleDeviceSharding(devices[0])

    def of(self, num_runs: int) -> "RunsTogether":
        """The same layout for another number of runs."""
        return RunsTogether(num_runs, self._available, self._by_map)

    def replicate(self, tree: Any) -> Any:
        """Arrays that all runs share."""
        return jax.device_put(tree, self._shared)

    def stack(self, trees: Sequence[Any]) -> Any:
        """A tree for each run, over the devices."""
        # Each device has the same number of places; those left over repeat the last run.
        filled = [*trees, *[trees[-1]] * (-len(trees) % self._num_places)]
        stacked = jax.tree.map(lambda *leaves: np.stack([np.asarray(a) for a in leaves]), *filled)
        return jax.device_put(stacked, self._by_run)

    def place(self, states: Sequence[Any]) -> Any:
        """The state of each run, over the devices."""
        return self.stack(states)

    def state_shardings(self, shapes: Any) -> Any:
        """The state of a run on the first device."""
        return jax.tree.map(lambda _: self._first, shapes)

    def positions(self, batch_size: int) -> jax.Array:
        """Inside a compiled function: int32 places in the batch of a run."""
        return jnp.arange(batch_size, dtype=jnp.int32)

    def gather(self, weights: Any) -> Any:
        """The weights unchanged: a run is on one device."""
        return weights

    def compile(
        self, function: Callable, inputs: str = "replicated", returns_state: bool = False
    ) -> Any:
        """Compile `function(state, numbers, per_run, common)` of one run for all; `common` has no run axis."""
        assert inputs == "replicated", inputs
        several = jax.shard_map(
            partial(self._several, function),
            mesh=self._mesh,
            in_specs=(RUNS, RUNS, RUNS, SHARED),
            out_specs=RUNS,
            check_vma=False,
        )
        return checked_jit(several, donate_argnums=(0,) if returns_state else ())

    def take(self, tree: Any, run: int = 0) -> Any:
        """What a compiled function returned for a run, on the first device."""
        return jax.device_put(_take(tree, run), self._first)

    def read(self, tree: Any) -> Any:
        """What a compiled function returned, as NumPy arrays with a leading axis of runs."""
        return jax.device_get(tree)


@jax.jit
def _take(tree: Any, run: jax.Array) -> Any:
    return jax.tree.map(lambda a: a[run], tree)
