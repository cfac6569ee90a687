"""An error of one of several processes ends all of them.

The others may wait for it without end, in a collective or at a barrier of Orbax, where Python's main
thread has no turn. So a thread of each process looks for errors of the others, and ends its process.
"""

import contextlib
import json
import os
import select
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

POLL_SECONDS = 1
# The reason why another process is lost may come after the news that it is.
REASON_SECONDS = 3
# Process 0 has the store: it ends after the others, at the latest after this time.
LEAVE_SECONDS = 10
# A signal that the main thread has not noted by then ends the process.
SIGNAL_SECONDS = 20
LAST_WORDS_SECONDS = 3
_ending = threading.Lock()


@contextlib.contextmanager
def errors_end_all(stop: StopRequest | None = None) -> Iterator[None]:
    """An error in this context ends all processes of the run, within seconds and with one line each.

    The exit code of all is 2 after a `UserError`, 3 after a `NotFiniteError`, 130 after Ctrl-C, else 1.

    Args:
        stop: notes the signals of this process. One that is not noted within `SIGNAL_SECONDS`, since
            the main thread waits for another process, ends this one. Its `last_words` are called when
            another process has failed.
    """
    if jax.process_count() == 1:
        yield
        return
    try:
        with _watching(stop):
            yield
    except SystemExit as error:
        # Another process reports why.
        _end(int(error.code or 0))
    except KeyboardInterrupt:
        _end(SIGNALS[signal.SIGINT][0], "interrupted", "interrupted")
    except ReportedError as error:
        _end(2, f"error: {error}")
    except UserError as error:
        _end(2, f"error: {error}", str(error))
    except NotFiniteError as error:
        _end(3, f"error: {error}", str(error))
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in reason:
            # Meanwhile the thread may learn what the other one says, and end the process.
            time.sleep(REASON_SECONDS)
            lost = f"lost another process ({reason})"
            resume = "the same command resumes from the last checkpoint"
            _end(1, f"error: process {_self()} {lost}; see what that one says; {resume}", lost)
        _end(1, "".join(traceback.format_exception(error)).rstrip(), reason)


def _self() -> str:
    return f"{jax.process_index()} of {jax.process_count()}"


def _end(code: int, text: str = "", announced: str = "") -> NoReturn:
    """Print a text, announce an error to the other processes, and exit without waiting for them.

    The first thread that calls this ends the process; another one waits here for that.
    """
    _ending.acquire()
    with contextlib.suppress(OSError, ValueError):
        if text:
            print(text, file=sys.stderr)
        sys.stderr.flush()
        sys.stdout.flush()
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        if announced:
            note = json.dumps([jax.process_index(), code, announced])
            shared_store().key_value_set(f"resnet_jax/failed/{jax.process_index():06}", note)
        _leave()
        _wait_for_the_others()
    os._exit(code)


def _leave() -> None:
    shared_store().key_value_set(f"resnet_jax/left/{jax.process_index()}", "", True)


def _wait_for_the_others() -> None:
    """Process 0 waits until all others have ended: JAX ends those that lose the store."""
    end = time.monotonic() + LEAVE_SECONDS
    while jax.process_index() == 0 and time.monotonic() < end:
        if len(shared_store().key_value_dir_get("resnet_jax/left/")) == jax.process_count():
            # The key is set just before the end.
            time.sleep(0.1)
            return
        time.sleep(0.1)


@contextlib.contextmanager
def _watching(stop: StopRequest | None) -> Iterator[None]:
    """Watch the other processes, and the signals of this one where they are noted."""
    reader, writer = socket.socketpair()
    over = threading.Event()
    for end in (reader, writer):
        end.setblocking(False)
    # Python writes a byte there when a signal comes, also while the main thread is in native code.
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=_watch, args=(stop, reader, over), daemon=True)
    thread.start()
    try:
        yield
        over.set()
        writer.send(b"\0")
        thread.join()
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            _leave()
    finally:
        signal.set_wakeup_fd(before)


def _watch(stop: StopRequest | None, reader: socket.socket, over: threading.Event) -> None:
    deadline, received = float("inf"), 0
    while not over.is_set():
        if select.select([reader], [], [], POLL_SECONDS)[0]:
            signals = set(reader.recv(4096)) & set(SIGNALS)
            if signals and not received:
                received, deadline = min(signals), time.monotonic() + SIGNAL_SECONDS
        if stop is not None and stop.signal is None and time.monotonic() > deadline:
            _end_by_signal(received)
        # JAX ends a process that has lost the store.
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            for _, note in sorted(shared_store().key_value_dir_get("resnet_jax/failed/")):
                index, code, reason = json.loads(note)
                if index != jax.process_index():
                    _end_with_another(stop, index, code, reason)


def _end_by_signal(number: int) -> NoReturn:
    name = signal.Signals(number).name
    waits = f"does not answer {name} within {SIGNAL_SECONDS} s, since it waits for another process"
    resume = "it ends; the same command resumes from the last checkpoint"
    _end(SIGNALS[number][0], f"error: process {_self()} {waits}; {resume}", f"was ended by {name}")


def _end_with_another(stop: StopRequest | None, index: int, code: int, reason: str) -> NoReturn:
    ended = f"process {index} of {jax.process_count()} ended: {reason}"
    if stop is not None:
        # The main thread may have a lock that they need.
        words = threading.Thread(
            target=stop.last_words, args=("failed",), kwargs={"error": ended}, daemon=True
        )
        words.start()
        words.join(LAST_WORDS_SECONDS)
    _end(code, f"error: {ended}")
