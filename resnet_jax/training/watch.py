"""An error of one of several processes ends all of them.

The others may wait for it without end, in a collective or at a barrier of Orbax, where Python's main
thread has no turn. So a thread of each process watches the others and ends its process after theirs.
"""

import contextlib
import json
import os
import selectors
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import NoReturn

import jax

from resnet_jax.errors import NotFiniteError, UserError
from resnet_jax.training.hosts import ReportedError, shared_store
from resnet_jax.training.interruption import SIGNALS, StopRequest
from resnet_jax.training.rendezvous import Connections

POLL_SECONDS = 1
# The reason why another process is lost may come after the news that it is.
REASON_SECONDS = 3
# Process 0 has the store: it ends after the others, at the latest after this time.
LEAVE_SECONDS = 5
# A signal that training did not answer by then, since it waits for another process, ends this one.
SIGNAL_SECONDS = 20
LAST_WORDS_SECONDS = 3
FAILED, LEFT = "resnet_jax/failed/", "resnet_jax/left/"
# What a process sends before it ends, unless it is killed.
GOODBYE = b"goodbye"
RESUME = "the same command resumes from the last checkpoint"
KILLED = f"it was killed, or its machine is lost; {RESUME}"


@contextlib.contextmanager
def errors_end_all(connections: Connections, stop: StopRequest | None = None) -> Iterator[None]:
    """An error in this context ends all processes of the run, within seconds and with one line each.

    The exit code of all is 2 after a `UserError`, 3 after a `NotFiniteError`, 130 after Ctrl-C, else 1,
    also where a process was killed.

    Args:
        connections: of `rendezvous.meet`.
        stop: notes the signals of this process. One that is not answered within `SIGNAL_SECONDS`, since
            the main thread waits for another process, ends this one. Its `last_words` are called when
            another process has failed.
    """
    watch = Watch(connections, stop)
    try:
        with watch:
            yield
    except SystemExit as error:
        # Another process reports why.
        watch.end(int(error.code or 0))
    except KeyboardInterrupt:
        watch.end(SIGNALS[signal.SIGINT][0], "interrupted", "interrupted")
    except ReportedError as error:
        watch.end(2, f"error: {error}")
    except UserError as error:
        watch.end(2, f"error: {error}", str(error))
    except NotFiniteError as error:
        watch.end(3, f"error: {error}", str(error))
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in reason:
            # Meanwhile the thread may learn what the other one says, and end the process.
            time.sleep(REASON_SECONDS)
            lost = f"lost another process ({reason})"
            watch.end(1, f"error: process {_self()} {lost}; see what that one says; {RESUME}", lost)
        watch.end(1, "".join(traceback.format_exception(error)).rstrip(), reason)


def _self() -> str:
    return f"{jax.process_index()} of {jax.process_count()}"


class Watch:
    """A thread that watches the other processes, and the signals of this one. A context manager.

    Args:
        connections, stop: as of `errors_end_all`.
    """

    def __init__(self, connections: Connections, stop: StopRequest | None) -> None:
        self._connections, self._stop = connections, stop
        self._ending, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._reader, self._writer = socket.socketpair()
        for end in (self._reader, self._writer, *connections.values()):
            end.setblocking(False)
        self._signal, self._deadline = 0, float("inf")

    def __enter__(self) -> "Watch":
        # Python writes a byte there when a signal comes, also while the main thread is in native code.
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._thread.start()
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        # After an error the thread continues: the main thread may have to wait for the end.
        if error is None:
            signal.set_wakeup_fd(-1)
            self._over.set()
            self._writer.send(b"\0")
            self._thread.join()
            self._say_goodbye()

    def end(
        self, code: int, text: str = "", announced: str = "", *, has_store: bool = True
    ) -> NoReturn:
        """End the process without waiting for the others, but process 0 as the last one.

        The first thread that calls this ends the process; another one waits here for that.

        Args:
            code: exit code.
            text: what is printed to stderr.
            announced: what the other processes print; empty: they know.
            has_store: whether the store of all processes is there.
        """
        self._ending.acquire()
        with contextlib.suppress(OSError, ValueError):
            if text:
                print(text, file=sys.stderr)
            sys.stderr.flush()
            sys.stdout.flush()
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            if announced:
                _announce(jax.process_index(), code, announced)
            if has_store:
                _leave(jax.process_index())
                _wait_for_the_others()
        self._say_goodbye()
        os._exit(code)

    def _say_goodbye(self) -> None:
        for connection in self._connections.values():
            with contextlib.suppress(OSError):
                connection.send(GOODBYE)

    def _watch(self) -> None:
        with selectors.DefaultSelector() as ready:
            ready.register(self._reader, selectors.EVENT_READ)
            for index, connection in self._connections.items():
                ready.register(connection, selectors.EVENT_READ, index)
            while not self._over.is_set():
                keys = [key for key, _ in ready.select(POLL_SECONDS)]
                for key in keys:
                    if key.fileobj is not self._reader:
                        ready.unregister(key.fileobj)
                self._look_at_signals(any(key.fileobj is self._reader for key in keys))
                self._look_at_others([key.data for key in keys if key.data is not None])

    def _look_at_signals(self, came: bool) -> None:
        signals = set(self._reader.recv(4096)) & set(SIGNALS) if came else set()
        if signals and not self._signal:
            self._signal, self._deadline = min(signals), time.monotonic() + SIGNAL_SECONDS
        if (
            self._stop is not None
            and self._stop.signal is None
            and time.monotonic() > self._deadline
        ):
            name = signal.Signals(self._signal).name
            waits = f"waited for another process {SIGNAL_SECONDS} s after {name}"
            exit_code, state = SIGNALS[self._signal]
            self._say_last_words(state)
            self.end(exit_code, f"error: process {_self()} {waits}; {RESUME}", f"it {waits}")

    def _look_at_others(self, closed: list[int]) -> None:
        """Args: `closed`: indices of the processes whose connections were closed or that said goodbye."""
        killed = [index for index in closed if not _said_goodbye(self._connections[index])]
        if 0 in killed:
            # JAX is about to end this process in its own way, since it has lost the store.
            text = f"error: process 0 of {jax.process_count()} ended: {KILLED}"
            self.end(1, text, has_store=False)
        # JAX ends a process that has lost the store.
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            for index in killed:
                _announce(index, 1, KILLED)
                _leave(index)
            for _, note in sorted(shared_store().key_value_dir_get(FAILED)):
                index, code, reason = json.loads(note)
                if index != jax.process_index():
                    ended = f"process {index} of {jax.process_count()} ended: {reason}"
                    self._say_last_words("failed", error=ended)
                    self.end(code, f"error: {ended}")

    def _say_last_words(self, state: str, **facts: str) -> None:
        if self._stop is None:
            return
        # The main thread may have a lock that they need.
        words = threading.Thread(
            target=self._stop.last_words, args=(state,), kwargs=facts, daemon=True
        )
        words.start()
        words.join(LAST_WORDS_SECONDS)


def _said_goodbye(connection: socket.socket) -> bool:
    try:
        return connection.recv(len(GOODBYE)) == GOODBYE
    except OSError:
        return False


def _announce(index: int, code: int, reason: str) -> None:
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        # A process that was killed just after its own note has one already.
        shared_store().key_value_set(f"{FAILED}{index:06}", json.dumps([index, code, reason]))


def _leave(index: int) -> None:
    shared_store().key_value_set(f"{LEFT}{index}", "", True)


def _wait_for_the_others() -> None:
    """In process 0: JAX ends those that lose the store."""
    end = time.monotonic() + LEAVE_SECONDS
    while jax.process_index() == 0 and time.monotonic() < end:
        # The key is set just before the end.
        time.sleep(0.1)
        if len(shared_store().key_value_dir_get(LEFT)) == jax.process_count():
            return
