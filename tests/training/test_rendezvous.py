"""Processes that meet, as threads of this process, and what else may come to their address."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from resnet_jax.errors import UserError
from resnet_jax.training import rendezvous


def meet(*arguments):
    """The address; the connections are closed."""
    address, connections = rendezvous.meet(*arguments)
    for connection in connections.values():
        connection.close()
    return address


@pytest.fixture(autouse=True)
def short_times(monkeypatch):
    monkeypatch.setattr(rendezvous, "CONNECT_SECONDS", 8)
    monkeypatch.setattr(rendezvous, "GREETING_SECONDS", 0.2)


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def pool():
    with ThreadPoolExecutor() as pool:
        yield pool


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_all_are_given_one_port_of_process_0(pool, port, host):
    address = f"{host}:{port}"
    # Process 0 comes last.
    others = [pool.submit(meet, address, 3, index) for index in (2, 1)]
    threading.Event().wait(0.3)
    chosen = meet(address, 3, 0)
    assert [other.result() for other in others] == [chosen, chosen]
    assert chosen.startswith(f"{host}:")
    assert chosen != address


def test_what_is_not_of_the_run_is_refused_and_does_not_end_it(pool, port):
    address = f"127.0.0.1:{port}"
    first = pool.submit(meet, address, 3, 0)
    second = pool.submit(meet, address, 3, 1)
    threading.Event().wait(0.3)
    for count, index, words in ((2, 1, "--num_processes=3"), (3, 1, "--process_id=1 is there")):
        with pytest.raises(UserError, match=words):
            meet(address, count, index)
    for noise in (b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"[" * 3000 + b"\n", b"\xff\n", b"7\n"):
        with socket.create_connection(("127.0.0.1", port)) as stray:
            stray.sendall(noise)
    silent = socket.create_connection(("127.0.0.1", port))
    third = meet(address, 3, 2)
    assert first.result() == second.result() == third
    silent.close()


def test_a_process_that_ended_may_come_again(pool, port):
    address = f"127.0.0.1:{port}"
    first = pool.submit(meet, address, 3, 0)
    threading.Event().wait(0.2)
    with socket.create_connection(("127.0.0.1", port)) as ended:
        rendezvous._send(ended, {"count": 3, "index": 1})
        threading.Event().wait(0.2)
    others = [pool.submit(meet, address, 3, index) for index in (1, 2)]
    assert {other.result() for other in others} == {first.result()}


@pytest.mark.parametrize(
    ("address", "index", "words"),
    [
        ("no-such-host.invalid:1234", 1, "was not reached within"),
        ("127.0.0.1:1", 1, "refused"),
        ("127.0.0.1:{port}", 0, "process 1 did not connect"),
    ],
)
def test_a_wrong_address_or_a_missing_process_is_one_line(port, address, index, words, monkeypatch):
    monkeypatch.setattr(rendezvous, "CONNECT_SECONDS", 1)
    with pytest.raises(UserError, match=words):
        meet(address.format(port=port), 2, index)


def test_a_port_in_use_is_named():
    with socket.create_server(("", 0)) as used, pytest.raises(UserError, match="in use"):
        meet(f"localhost:{used.getsockname()[1]}", 2, 0)


def test_an_address_that_accepts_and_says_nothing(monkeypatch):
    monkeypatch.setattr(rendezvous, "CONNECT_SECONDS", 1)
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(UserError, match="timed out"),
    ):
        meet(f"127.0.0.1:{other.getsockname()[1]}", 2, 1)


def test_the_end_of_a_process_closes_its_connections(pool, port):
    first = pool.submit(rendezvous.meet, f"127.0.0.1:{port}", 2, 0)
    _, of_second = rendezvous.meet(f"127.0.0.1:{port}", 2, 1)
    _, of_first = first.result()
    assert (list(of_first), list(of_second)) == ([1], [0])
    of_first[1].settimeout(0.1)
    with pytest.raises(TimeoutError):
        of_first[1].recv(1)
    of_second[0].close()
    assert of_first[1].recv(1) == b""
    of_first[1].close()
