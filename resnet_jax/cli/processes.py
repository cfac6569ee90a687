"""Commands that several processes run together."""

import argparse
import contextlib
from collections.abc import Callable, Iterator

from resnet_jax.cli.parser import Add
from resnet_jax.training.interruption import StopRequest
from resnet_jax.training.launchers import find_processes

Together = Callable[[], contextlib.AbstractContextManager[bool]]


def add_processes(option: Add) -> None:
    """Add the options that name the processes of a command."""
    option("--coordinator", metavar="HOST:PORT", help="of process 0, where no launcher says it")
    option("--num_processes", type=int, metavar="N", help="of this command; 1: it runs alone")
    option("--process_id", type=int, metavar="I", help="which of them this is, from 0")


@contextlib.contextmanager
def processes(arguments: argparse.Namespace, stop: StopRequest | None = None) -> Iterator[Together]:
    """Find the other processes of this command; an error in the context ends all of them.

    Yields a context manager that yields whether this process is the first one. An error in it, in
    whichever process, is reported once.
    """
    options = arguments.coordinator, arguments.num_processes, arguments.process_id
    found = find_processes(*options)
    if found is None:
        yield lambda: contextlib.nullcontext(True)
        return
    from resnet_jax.training.hosts import connect, together

    connections = connect(found)
    from resnet_jax.training.watch import errors_end_all

    with errors_end_all(connections, stop):
        yield together
