"""A worker whose runs do what their names say: python stand_in_worker.py DIRECTORY RUN…"""

import os
import signal
import sys
import time

from resnet_jax.sweeps.executors import stop_with_parent
from resnet_jax.sweeps.jobs import state
from resnet_jax.sweeps.sweep_directory import SweepDirectory
from resnet_jax.training.interruption import SIGNALS, StopRequest

directory = SweepDirectory(sys.argv[1])


def write(run_id, state, step, **facts):
    run = directory.run(run_id)
    run.path.mkdir(parents=True, exist_ok=True)
    run.write_status(state, step, 10, parameters=75002, **facts)


def wait_and_save(run_id, stop, stubborn):
    while stop.signal is None or stubborn:
        time.sleep(0.01)
    time.sleep(0.3 * int(run_id[-1]))  # saving
    code, state = SIGNALS[stop.signal]
    write(run_id, state, 4)
    sys.exit(code)


def train(run_id):
    kind = run_id.split("-")[0]
    if kind == "broken":
        raise ImportError("no such room")
    if kind == "silent":
        return
    if kind == "mute":
        sys.exit(7)
    if kind == "stubborn":
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
    goes_on = kind == "resumes" and state(directory.run(run_id)) == "preempted"
    with StopRequest() as stop:
        write(run_id, "running", 3, pid=os.getpid())
        if kind == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "raises":
            raise MemoryError("no room for the weights")
        if kind in ("slow", "stubborn", "resumes") and not goes_on:
            wait_and_save(run_id, stop, kind == "stubborn")
        time.sleep(0.2)
    device, began = os.environ.get("CUDA_VISIBLE_DEVICES"), time.time() - 0.2
    write(run_id, "diverged" if kind == "diverges" else "done", 10, device=device, began=began)


stop_with_parent()
for run_id in sys.argv[2:]:
    train(run_id)
