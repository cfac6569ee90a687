"""What a step of ResNet-50 says between devices, and what that should cost: a calculation.

    python docs/scaling.py

Nothing here is measured. The bytes follow from the network, as `tests/training/test_collectives.py`
finds them in the compiled step of a small one; speeds are those that makers publish; `LATENCY` and
`IMAGES_PER_SECOND` are assumptions, to be replaced by one's own.
"""

import math
import sys
from dataclasses import dataclass
from pathlib import Path

from resnet_jax.compiler import turn_off_ynnpack

turn_off_ynnpack()  # Before JAX starts.

import jax
from flax import nnx

sys.path.insert(0, str(Path(__file__).parents[1]))

from resnet_jax import models

BATCH = 128
IMAGES_PER_SECOND = 2500
# Seconds for each doubling of the devices that wait for each other.
LATENCY = 5e-6
DEVICES = (8, 64, 512, 4096)


@dataclass(frozen=True)
class Machine:
    """Bytes per second that a device sends, to its neighbours and to others.

    Attributes:
        near: between the `group` devices of a node, or of a whole slice.
        far: between groups.
        group: how many devices are near each other.
    """

    near: float
    far: float
    group: int


MACHINES = {
    # NVLink 900 GB/s both ways (NVIDIA H100 data sheet); InfiniBand NDR 400 Gb/s a device.
    "H100": Machine(450e9, 50e9, 8),
    # ICI 1,200 GB/s both ways (Google Cloud, TPU v5p); one slice has no far devices.
    "TPU v5p": Machine(600e9, 600e9, 2**20),
}


def sizes() -> tuple[int, int, int]:
    """Bytes of the parameters of ResNet-50, bytes of one statistic of all norms, number of norms."""
    model = nnx.eval_shape(lambda: models.create("resnet50", rngs=nnx.Rngs(0)))
    means = jax.tree.leaves(nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)))
    # Mean and variance of each norm.
    return 4 * models.count_parameters(model), 2 * sum(a.size for a in means), len(means) // 2


def all_reduce(size: float, devices: int, machine: Machine) -> float:
    """Seconds: scatter-reduce in a group, the parts between groups, gather in the group."""
    near = min(devices, machine.group)
    groups = devices // near
    inside = 2 * (near - 1) / near * size / machine.near
    return inside + 2 * (groups - 1) / groups * size / near / machine.far


def wait(devices: int) -> float:
    """Seconds that a collective of few bytes takes."""
    return LATENCY * math.ceil(math.log2(devices))


def seconds(mode: str, devices: int, machine: Machine) -> float:
    """Of a step in collectives, none of it hidden behind work."""
    parameters, statistic, norms = sizes()
    gradient = all_reduce(parameters, devices, machine) + wait(devices)
    if mode == "per_device":
        return gradient
    # Forward, the central pixels' mean and then two moments; backward, the gradients of these.
    statistics = all_reduce(5 * statistic, devices, machine) + 3 * norms * wait(devices)
    if mode == "global":
        return gradient + statistics
    # The gather over the 8 devices of `fsdp`.
    return gradient + statistics + 7 / 8 * parameters / machine.near + wait(8)


def rows() -> list[str]:
    """Markdown lines: the share of a step that is work, by machine and mode."""
    lines = [
        "| | " + " | ".join(f"{n:,}" for n in DEVICES) + " |",
        "|---" * (len(DEVICES) + 1) + "|",
    ]
    work = BATCH / IMAGES_PER_SECOND
    names = {
        "per_device": "`pmap`, statistics per device",
        "global": "`jit`, statistics of the whole batch",
        "fsdp": "`jit`, `parallel.fsdp=8`",
    }
    for machine_name, machine in MACHINES.items():
        for mode, name in names.items():
            shares = (work / (work + seconds(mode, n, machine)) for n in DEVICES)
            lines.append(
                f"| {machine_name}, {name} | " + " | ".join(f"{s:.1%}" for s in shares) + " |"
            )
    return lines


if __name__ == "__main__":
    parameters, statistic, norms = sizes()
    print(f"gradient {parameters:,} bytes; {norms} norms, one statistic of all {statistic:,} bytes")
    print("\n".join(rows()))
