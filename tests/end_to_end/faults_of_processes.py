"""Faults of one of several processes: each does what its docstring says, and returns what came of it."""

import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from commands import ROOT, command, saved_steps, status, wait_for
from faulty_runs import Outcome, mount, short
from test_hosts import FIELDS, finish, start_two

LONG = FIELDS | {"train__duration": "60 steps", "evaluate__every": "60 steps"}


def one_line_each(told):
    """The one line that each process printed to stderr."""
    lines = [errors.splitlines() for _, errors in told]
    assert [len(line) for line in lines] == [1] * len(lines), lines
    return [line for (line,) in lines]


def file_size_limit_of_one_process(directory):
    """Two processes; the second may not write files past 20 kB, and fails while a checkpoint is saved"""
    workdir = directory / "run"
    # Nothing is decoded into the cache, which would meet the limit first.
    fields = LONG | {"data__placement": "stream"}
    told = finish(start_two("train", workdir, limit=20_000, **fields), codes=(2, 2), seconds=120)
    first, second = one_line_each(told)
    assert "could not be saved" in second
    assert first.startswith("error: process 1 of 2 ended: checkpoint")
    assert status(workdir)["state"] == "failed"
    finish(start_two("train", workdir, **fields))
    assert status(workdir)["state"] == "done"
    return Outcome(
        f"both ended: `{short(first)}`; with more room the same command resumed", [2, 2, 0]
    )


def no_write_permission_in_one_process(directory):
    """Two processes; for the second the file system of the run is read-only"""
    mounted = directory / "mounted"
    mounted.mkdir()
    mount("-t", "tmpfs", "none", str(mounted))
    try:
        read_only = f'mount -o remount,bind,ro {mounted}; exec "$@"'
        before = ["unshare", "--mount", "sh", "-c", read_only, "sh"]
        if subprocess.run([*before, "true"], capture_output=True).returncode:
            pytest.skip("needs mount namespaces")
        workdir = mounted / "run"
        processes = start_two("train", workdir, before_last=before, **LONG)
        told = finish(processes, codes=(2, 2), seconds=120)
        first, second = one_line_each(told)
        assert "Read-only file system" in second
        assert first.startswith("error: process 1 of 2 ended: ")
    finally:
        subprocess.run(["umount", str(mounted)], check=True)
    return Outcome(f"both ended: `{short(first)}`", [2, 2])


def other_data_in_one_process(directory):
    """Two processes with data directories of their own: the second has other images of the same number"""
    rng = np.random.default_rng(0)
    for copy in "ab":
        for split, images in {"train": 16, "test": 4}.items():
            for label in "01":
                folder = directory / copy / "set" / split / label
                folder.mkdir(parents=True)
                for image in range(images):
                    pixels = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
                    assert cv2.imwrite(str(folder / f"{image}.png"), pixels)
    fields = FIELDS | {"data__name": "folder:set", "data__data_dir": directory / "a"}
    # The same mean and standard deviation, and one pair of labels exchanged.
    shutil.copytree(directory / "a", directory / "c")
    first, other = (directory / "c" / "set" / "train" / label / "0.png" for label in "01")
    first.rename(directory / "kept")
    other.rename(first)
    (directory / "kept").rename(other)
    lines = []
    for copy, name in (("b", "mean"), ("c", "training examples")):
        last = [f"--config.data.data_dir={directory / copy}"]
        processes = start_two("train", directory / "run", last=last, **fields)
        (_, line), (_, second) = finish(processes, codes=(2, 2), seconds=120)
        assert line.startswith(f"error: {name} = ")
        assert "process 1 has" in line
        assert (line.count("\n"), second) == (1, "")
        assert not (directory / "run").exists()
        lines.append(line.removeprefix("error: ").strip())
    return Outcome(f"`{short(lines[-1])}`; nothing was written", [2, 2])


def wrong_coordinator(directory):
    """The second process with an address at which nobody listens, and with a name that does not exist"""
    lines = []
    for address in ("127.0.0.1:1", "no-such-host.invalid:1234"):
        words = command("train", directory / "run")[2:]
        options = [f"--coordinator={address}", "--num_processes=2", "--process_id=1"]
        code = (
            "import sys; from resnet_jax.training import rendezvous; from resnet_jax.cli import main;"
            "rendezvous.CONNECT_SECONDS = 1; sys.exit(main(sys.argv[1:]))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, *words, *options], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 2, done
        lines.append(done.stderr.removeprefix("error: ").strip())
        assert "process 0 was not reached within" in lines[-1]
        assert done.stderr.count("\n") == 1
        assert not (directory / "run").exists()
    return Outcome(f"`{short(lines[0])}` (after 300 s; 1 s in this test)", [2, 2])


def stopped_process(directory):
    """SIGSTOP to the second of two processes for 20 s; later for good"""
    workdir = directory / "run"
    fields = LONG | {"train__duration": "100 steps"}
    processes = start_two("train", workdir, **fields)
    wait_for(lambda: saved_steps(workdir) if workdir.exists() else [], processes[0])
    processes[1].send_signal(signal.SIGSTOP)
    time.sleep(20)
    processes[1].send_signal(signal.SIGCONT)
    steps = saved_steps(workdir)[-1]
    wait_for(lambda: saved_steps(workdir)[-1] > steps + 2, processes[0])
    processes[1].send_signal(signal.SIGSTOP)
    begin = time.monotonic()
    processes[0].wait(timeout=75)
    seconds = time.monotonic() - begin
    assert processes[0].returncode in (1, -signal.SIGABRT)
    processes[1].kill()
    finish(processes, codes=(processes[0].returncode, -signal.SIGKILL))
    finish(start_two("train", workdir, **fields))
    assert status(workdir)["state"] == "done"
    happened = f"went on after 20 s; later the other one ended after {seconds:.0f} s; resumed"
    return Outcome(happened, [processes[0].returncode, -9, 0, 0])
