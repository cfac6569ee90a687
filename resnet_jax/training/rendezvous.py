"""Where the processes of a run meet before JAX connects them. No JAX import.

JAX ends a process in C++ where the address of the coordinator is wrong, and a whole job where a process
that is not part of it connects. So process 0 listens at the coordinator's address itself, admits each
process of the run once, and only then gives all of them the port, a free one, at which JAX listens.
"""

import contextlib
import errno
import json
import select
import socket
import time
from typing import Any

from resnet_jax.errors import UserError, warn
from resnet_jax.wording import first_few

# All processes of a run start within this time.
CONNECT_SECONDS = 300
# How long process 0 waits for the greeting of a process that has connected.
GREETING_SECONDS = 2
# A process that still waits for another one says so.
SAY_AFTER_SECONDS = 10
NAME = "resnet_jax"
_LONGEST = 4096
# By the process at the other end: in process 0 all others, in each of these process 0 alone.
Connections = dict[int, socket.socket]


def meet(address: str, count: int, index: int) -> tuple[str, Connections]:
    """Wait until all processes of the run are there.

    Args:
        address: HOST:PORT at which process 0 listens.
        count: number of processes.
        index: which of them this is.

    Returns:
        HOST:PORT at which process 0 shall start JAX's coordinator; and the connections, which the system
        closes when the process at the other end ends, however it does.

    Raises:
        UserError: they are not all there after `CONNECT_SECONDS`, the port is in use, or process 0
            is of a run with another number of processes or has a process of this index already.
    """
    host, _, port = address.rpartition(":")
    if index:
        greeting = {"count": count, "index": index}
        chosen, connections = _call(address, host.strip("[]"), int(port), greeting)
    else:
        chosen, connections = _receive(address, int(port), count)
    for connection in connections.values():
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return f"{host}:{chosen}", connections


def _receive(address: str, port: int, count: int) -> tuple[int, Connections]:
    """Process 0: admit the others, then send all of them a free port."""
    begin, admitted, said = time.monotonic(), Connections(), False
    with _listen(address, port) as listening:
        while len(_drop_closed(admitted)) < count - 1:
            waited = time.monotonic() - begin
            missing = first_few(i for i in range(1, count) if i not in admitted)
            if waited > CONNECT_SECONDS:
                problem = f"process {missing} did not connect to {address} within {waited:.0f} s"
                fix = "start all processes, and see what they print"
                raise UserError("--num_processes", count, problem, fix)
            if waited > SAY_AFTER_SECONDS and not said:
                said = True
                warn(f"waiting at {address} for process {missing} of {count}")
            if select.select([listening], [], [], 1)[0]:
                with contextlib.suppress(OSError):
                    _admit(listening.accept()[0], count, admitted)
        with socket.create_server(("", 0)) as free:
            chosen = free.getsockname()[1]
        for connection in admitted.values():
            with contextlib.suppress(OSError):
                _send(connection, {"port": chosen})
    return chosen, admitted


def _listen(address: str, port: int) -> socket.socket:
    try:
        if socket.has_dualstack_ipv6():
            with contextlib.suppress(OSError):
                return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        return socket.create_server(("", port))
    except OSError as error:
        used = error.errno == errno.EADDRINUSE
        problem = "the port is in use here" if used else f"cannot listen there ({error})"
        fix = "choose another port, the same one for all processes"
        raise UserError("--coordinator", address, problem, fix) from error


def _admit(connection: socket.socket, count: int, admitted: Connections) -> None:
    """Admit a process of the run; say to another one why it is refused. Its connection stays open."""
    connection.settimeout(GREETING_SECONDS)
    greeting = _read(connection)
    index = greeting.get("index")
    if greeting.get("count") != count or not isinstance(index, int) or not 0 < index < count:
        refusal = f"process 0 there trains with --num_processes={count}"
    elif index in _drop_closed(admitted):
        refusal = f"another process with --process_id={index} is there already"
    else:
        admitted[index] = connection
        return
    if greeting:
        warn(f"a process was refused that is not of this run ({refusal})")
        _send(connection, {"refusal": refusal})
    connection.close()


def _drop_closed(admitted: Connections) -> Connections:
    """Forget the processes that have ended meanwhile: one that waits sends nothing."""
    for index, connection in list(admitted.items()):
        connection.setblocking(False)
        try:
            connection.recv(1)
        except BlockingIOError:
            continue
        except OSError:
            pass
        del admitted[index]
    return admitted


def _call(address: str, host: str, port: int, greeting: dict[str, int]) -> tuple[int, Connections]:
    """Another process: greet process 0 and wait for the port."""
    begin, said = time.monotonic(), False
    while True:
        reason = "it ended or is not a process of a run"
        left = CONNECT_SECONDS - (time.monotonic() - begin)
        try:
            process_0 = socket.create_connection((host, port), timeout=max(1, min(left, 10)))
            # It answers when the last process is there.
            process_0.settimeout(CONNECT_SECONDS)
            _send(process_0, greeting)
            answer = _read(process_0)
        except (OSError, UnicodeError) as error:
            reason, answer = str(error), {}
        if "refusal" in answer:
            fix = "give each job a separate --coordinator, and each process another --process_id"
            raise UserError("--coordinator", address, answer["refusal"], fix)
        if isinstance(answer.get("port"), int):
            return int(answer["port"]), {0: process_0}
        waited = time.monotonic() - begin
        if waited > CONNECT_SECONDS:
            problem = f"process 0 was not reached within {waited:.0f} s ({reason})"
            fix = "give the address of process 0, and start it; --num_processes=1 runs alone"
            raise UserError("--coordinator", address, problem, fix)
        if waited > SAY_AFTER_SECONDS and not said:
            said = True
            warn(f"waiting for process 0 at {address} ({reason})")
        time.sleep(0.5)


def _send(connection: socket.socket, message: dict[str, Any]) -> None:
    connection.sendall(json.dumps({"name": NAME} | message).encode() + b"\n")


def _read(connection: socket.socket) -> dict[str, Any]:
    """One line of JSON that `_send` sent; empty where something else came."""
    received = b""
    while not received.endswith(b"\n") and len(received) < _LONGEST:
        part = connection.recv(_LONGEST)
        if not part:
            break
        received += part
    try:
        message = json.loads(received)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) and message.get("name") == NAME else {}
