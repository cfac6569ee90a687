"""Several processes that train one run: how they find each other, fail together and stop together.

Each runs the same command on its own devices. The first one, process 0, writes logs, status and
metrics; all write their shards of a checkpoint, so the run directory must be one that all see.
"""

import contextlib
import itertools
import json
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from resnet_jax.errors import UserError
from resnet_jax.training.interruption import StopRequest
from resnet_jax.training.launchers import Processes
from resnet_jax.training.rendezvous import Connections, meet
from resnet_jax.wording import first_few

# JAX ends all processes when one has been silent for longer, at the latest after twice this time.
HEARTBEAT_SECONDS = 30
# All are there already, see `rendezvous.py`.
CONNECT_SECONDS = 60
# Others may be decoding a data set meanwhile; one that fails ends the waiting.
MEETING_SECONDS = 3600
_meetings = itertools.count()


class ReportedError(UserError):
    """An error that ends all processes and that one of them prints, the one that raises this."""


def connect(processes: Processes) -> Connections:
    """Start `jax.distributed`; before any other use of JAX.

    Returns:
        As `rendezvous.meet`.

    Raises:
        UserError: the processes do not find each other.
    """
    # Its signal handler would take the place of ours (`interruption.py`).
    jax.config.update("jax_enable_preemption_service", False)
    try:
        address, count, index, devices = _detected(processes)
        address, connections = meet(address, count, index)
        jax.distributed.initialize(
            address,
            count,
            index,
            local_device_ids=devices,
            coordinator_bind_address=f"[::]:{address.rpartition(':')[2]}",
            initialization_timeout=CONNECT_SECONDS,
            # A process whose message is lost after half of this time is taken for dead.
            heartbeat_timeout_seconds=2 * HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            "--coordinator",
            processes.coordinator,
            f"the processes of this run did not find each other ({reason})",
            "give --coordinator, --num_processes and --process_id, or --num_processes=1 to run alone",
        ) from error
    return connections


def _detected(processes: Processes) -> tuple[str, int, int, Any]:
    """Address of process 0, number of processes, index, and devices of this one where JAX knows them."""
    if processes.coordinator is not None:
        assert processes.count is not None
        assert processes.index is not None
        return processes.coordinator, processes.count, processes.index, None
    # JAX has no public name for what `initialize` does first.
    from jax._src.clusters import ClusterEnv

    address, count, index, devices = ClusterEnv.auto_detect_unset_distributed_params(
        None, None, None, None, None, CONNECT_SECONDS
    )
    if address is None or count is None or index is None:
        raise ValueError("JAX does not know this launcher")
    return address, count, index, devices


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def shared_store() -> Any:
    """JAX's client of the key-value store of all processes."""
    # JAX has no public name for the store that its processes share.
    from jax._src import distributed

    return distributed.global_state.client


def exchange(text: str) -> list[str]:
    """What each process gave, by process; all call this equally often."""
    if jax.process_count() == 1:
        return [text]
    store, name = shared_store(), f"resnet_jax/exchange/{next(_meetings)}"
    # The store takes UTF-8 alone; names of files need not be.
    store.key_value_set(f"{name}/{jax.process_index():06}", json.dumps(text))
    end, pause = time.monotonic() + MEETING_SECONDS, 0.01
    # Not a barrier: a signal ends a process that waits here.
    while len(given := store.key_value_dir_get(f"{name}/")) < jax.process_count():
        if time.monotonic() > end:
            missing = set(range(jax.process_count())) - {int(key[-6:]) for key, _ in given}
            problem = f"process {first_few(missing)} has not come this far in {MEETING_SECONDS} s"
            raise UserError("--num_processes", jax.process_count(), problem, "see what it does")
        time.sleep(pause)
        pause = min(0.5, 1.5 * pause)
    return [json.loads(value) for _, value in sorted(given)]


@contextlib.contextmanager
def together() -> Iterator[bool]:
    """Gives whether this process is the first one, which writes.

    A `UserError` of any process in this context ends all of them; one of them reports it.

    Raises:
        ReportedError: in the first process that has a `UserError`; alone, that error itself.
        SystemExit: 2 in the others.
    """
    mine: UserError | None = None
    try:
        yield is_first()
    except UserError as error:
        mine = error
    told = exchange("" if mine is None else str(mine))
    wrong = [index for index, text in enumerate(told) if text]
    if not wrong:
        return
    if mine is not None and wrong[0] == jax.process_index():
        if jax.process_count() == 1:
            raise mine
        raise ReportedError(mine.field, mine.value, mine.problem, mine.fix) from mine
    raise SystemExit(2)


def agree(facts: Mapping[str, Any]) -> None:
    """Check that all processes have the same facts; all call this.

    Args:
        facts: by name; JSON-serialisable.

    Raises:
        ReportedError: in the first process: they differ.
        SystemExit: 2 in the others.
    """
    told = [json.loads(text) for text in exchange(json.dumps(facts))]
    for index, others in enumerate(told):
        for name in told[0] | others:
            fact, other = told[0].get(name), others.get(name)
            if other == fact:
                continue
            if not is_first():
                raise SystemExit(2)
            problem = f"process {index} has {other}"
            fix = "run the same command in every process, on a file system that all see"
            raise ReportedError(name, fact, problem, fix)


class Agreement:
    """Stops all processes at the same call when one of them gets a signal. A context manager.

    A thread waits for the notice of a stop and then tells the others how many calls this process has
    begun; the last call of all is the largest of these numbers. The calls themselves do not wait.

    Args:
        stop: where the signals of this process are noted.
    """

    def __init__(self, stop: StopRequest) -> None:
        self._stop = stop
        self._client: Any = shared_store() if jax.process_count() > 1 else None
        self._name = f"resnet_jax/stop/{next(_meetings)}"
        self._lock = threading.Lock()
        self._calls, self._told = 0, False
        # The number of the last call, and the signal, once they are agreed.
        self._last: tuple[int, int] | None = None
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> "Agreement":
        if self._client is not None:
            self._stop.defer()
            self._thread.start()
        return self

    def __exit__(self, _: Any, error: BaseException | None, __: Any) -> None:
        # After an error the process ends and waits for no other.
        if self._client is not None and error is None:
            self._notify("over")
            self._thread.join(timeout=HEARTBEAT_SECONDS)

    def reached(self) -> bool:
        """Before a call to the devices: whether all processes stop here.

        All processes ask equally often; then `StopRequest.signal` is that of the one that got it.
        """
        if self._client is None:
            return self._stop.signal is not None
        self._stop.answered = self._stop.signal is not None
        if self._stop.signal is not None and not self._told:
            self._notify(str(int(self._stop.signal)))
        with self._lock:
            if self._last is not None and self._calls >= self._last[0]:
                self._stop.signal = self._last[1]
                return True
            self._calls += 1
            return False

    def _notify(self, notice: str) -> None:
        self._told = True
        # Another process may have been first.
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            self._client.key_value_set(f"{self._name}/notice", notice)

    def _follow(self) -> None:
        client, name = self._client, self._name
        # An error means that another process is lost, and that JAX ends this one.
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            while (notice := self._wait_for_notice()) is None:
                pass
            if notice == "over":
                return
            with self._lock:
                client.key_value_set(f"{name}/calls/{jax.process_index()}", str(self._calls))
                client.wait_at_barrier(name, MEETING_SECONDS * 1000)
                calls = client.key_value_dir_get(f"{name}/calls/")
                self._last = max(int(value) for _, value in calls), int(notice)

    def _wait_for_notice(self) -> str | None:
        try:
            return self._client.blocking_key_value_get(
                f"{self._name}/notice", MEETING_SECONDS * 1000
            )
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" in str(error):
                return None
            raise
