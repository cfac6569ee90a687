"""Whether several processes run this command, by its options or by what started it. No JAX import."""

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from resnet_jax.errors import UserError

# Environment variables by launcher: number of processes, and which of them this is. A shell or a batch
# script inside a Slurm job is no step of several tasks, and has not the first.
LAUNCHERS = {
    "Slurm": ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
    "Open MPI": ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
}
TPU_HOSTS = ("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES")
TPU_DEVICES = ("/dev/accel0", "/dev/vfio/0")


@dataclass(frozen=True)
class Processes:
    """Arguments of `jax.distributed.initialize`; None: JAX asks the launcher.

    Attributes:
        coordinator: HOST:PORT at which process 0 listens.
        count: number of processes.
        index: which of them this is.
    """

    coordinator: str | None = None
    count: int | None = None
    index: int | None = None


def find_processes(
    coordinator: str | None,
    count: int | None,
    index: int | None,
    environment: Mapping[str, str] = os.environ,
) -> Processes | None:
    """The processes of this command, or None where it runs alone.

    Args:
        coordinator, count, index: as given on the command line. A count of 1 always means alone.
        environment: variables of the launcher.

    Raises:
        UserError: options that contradict each other.
    """
    _check(coordinator, count, index)
    launched = _launched(environment)
    if count == 1:
        return None
    if coordinator is not None:
        if count is None and launched is None:
            problem = "needs --num_processes and --process_id here"
            raise UserError("--coordinator", coordinator, problem, "no launcher tells them")
        count, index = (count, index) if count is not None else launched or (None, None)
        return Processes(coordinator, count, index)
    return Processes() if launched or _on_tpu_slice(environment) else None


def _check(coordinator: str | None, count: int | None, index: int | None) -> None:
    if count is not None and count < 1:
        raise UserError("--num_processes", count, "must be at least 1")
    if count == 1 and coordinator is None and index in (None, 0):
        return
    if (count is None) != (index is None):
        problem = "--num_processes and --process_id belong together"
        raise UserError("--num_processes", count, problem, "give both or neither")
    if count is not None and coordinator is None:
        raise UserError("--coordinator", None, "is missing", "write HOST:PORT of process 0")
    if coordinator is not None:
        host, _, port = coordinator.rpartition(":")
        if not (host and port.isascii() and port.isdecimal() and 0 < int(port) < 2**16):
            problem = "is not an address with a port from 1 to 65535"
            raise UserError("--coordinator", coordinator, problem, "write HOST:PORT")
    if count is not None and index is not None and not 0 <= index < count:
        raise UserError("--process_id", index, f"must be from 0 to {count - 1}")


def _launched(environment: Mapping[str, str]) -> tuple[int, int] | None:
    for total, rank in LAUNCHERS.values():
        if int(environment.get(total) or 1) > 1 and environment.get(rank):
            return int(environment[total]), int(environment[rank])
    return None


def _on_tpu_slice(environment: Mapping[str, str]) -> bool:
    """Whether JAX finds the hosts of a TPU slice by itself: in GKE, or on a TPU VM."""
    if importlib.util.find_spec("libtpu") is None:
        return False
    for name in TPU_HOSTS:
        if name in environment:
            return "," in environment[name]
    return any(Path(device).exists() for device in TPU_DEVICES)
