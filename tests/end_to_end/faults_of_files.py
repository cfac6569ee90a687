"""Faults of disks and files: each does what its docstring says, and returns what came of it."""

import json
import os
import random
import shutil
import subprocess

from commands import ROOT, command, environment, run, saved_state, saved_steps, status
from faulty_runs import (
    Outcome,
    content,
    copy_of_undisturbed,
    files_of,
    goes_on,
    mount,
    refused,
    short,
    undisturbed,
)


def disk_full(directory):
    """A disk that is full at the first save; then one with too little room for the second"""
    first = sum(
        4096 * -(-p.stat().st_size // 4096) for p in files_of(undisturbed() / "checkpoints/5")
    )
    state = sum(array.nbytes for array in saved_state(undisturbed(), 5).values())
    with small_disk(directory / "disk", 300_000) as resize:
        workdir = directory / "disk" / "run"
        done = run("train", workdir)
        refused(done, "could not be saved (it needs", "there is no checkpoint yet")
        assert status(workdir)["state"] == "failed"
        # Room for the arrays of the second one, and not for what Orbax writes beside them.
        resize(first + (first + state) // 2 + 24_576)
        done = run("train", workdir)
        message = refused(done, "could not be saved", "the one of step 5 is good", "make room")
        assert saved_steps(workdir) == [5]
        resize(2**30)
        goes_on(workdir, undisturbed(), 10)
    return Outcome(f"`{short(message)}`; with more room the same command went on", [2, 2, 0], 5)


class small_disk:  # noqa: N801
    """A file system of so many bytes, in a context; gives a function that changes its size."""

    def __init__(self, mountpoint, size):
        self.mountpoint, self.size = mountpoint, size

    def __enter__(self):
        self.mountpoint.mkdir()
        mount("-t", "tmpfs", "-o", f"size={self.size}", "tmpfs", self.mountpoint)
        return lambda size: mount("-o", f"remount,size={size}", self.mountpoint)

    def __exit__(self, *_):
        subprocess.run(["umount", self.mountpoint], check=True)


def file_size_limit(directory):
    """Files that may not grow past 20 kB, which to the writer is a full disk; needs no root"""
    workdir = copy_of_undisturbed(directory)
    shutil.rmtree(workdir / "checkpoints" / "10")
    words = ["bash", "-c", 'ulimit -f 20 && exec "$@"', "bash", *command("train", workdir)]
    limited = subprocess.run(
        words,
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert limited.returncode == 2, limited.stderr
    message = limited.stderr.splitlines()[-1]
    assert "could not be saved" in message
    assert "the one of step 5 is good" in message
    assert status(workdir)["state"] == "failed"
    goes_on(workdir, undisturbed(), 10)
    return Outcome("one line; the checkpoint before it is good", [2, 0], 5)


def read_only_directory(directory):
    """A run directory on a file system that is mounted read-only"""
    workdir = copy_of_undisturbed(directory)
    mount("--bind", workdir, workdir)
    try:
        mount("-o", "remount,bind,ro", workdir)
        message = refused(run("train", workdir), "cannot be written (Read-only file system)")
        assert run("evaluate", workdir).returncode == 0
    finally:
        subprocess.run(["umount", workdir], check=True)
    return Outcome(f"`{short(message)}`; `evaluate` works", [2, 0])


def largest(checkpoint):
    return max(files_of(checkpoint), key=lambda path: path.stat().st_size)


def _truncate(checkpoint):
    path = largest(checkpoint)
    os.truncate(path, path.stat().st_size // 2)


def _flip(checkpoint):
    path = largest(checkpoint)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def _lose_shard(checkpoint):
    largest(checkpoint).unlink()


def _empty(checkpoint):
    shutil.rmtree(checkpoint)
    checkpoint.mkdir()


def _lose_meta(checkpoint):
    (checkpoint / "meta" / "metadata").unlink()


def _newest_is(damage, directory):
    workdir = copy_of_undisturbed(directory)
    damage(workdir / "checkpoints" / "10")
    refused(run("evaluate", workdir), "checkpoints/10", "is damaged")
    done = goes_on(workdir, undisturbed(), 10)
    (line,) = [line for line in done.stdout.splitlines() if "is damaged" in line]
    assert line.startswith("checkpoint of step 10 is damaged (")
    assert line.endswith("): going on from step 5")
    assert (workdir / "damaged" / "10").is_dir()
    return Outcome(f"`{short(line, 110)}`", [2, 0], 5)


def truncated_checkpoint(directory):
    """The largest file of the newest checkpoint cut in half"""
    return _newest_is(_truncate, directory)


def flipped_bit(directory):
    """One bit of the arrays of the newest checkpoint flipped"""
    return _newest_is(_flip, directory)


def missing_shard(directory):
    """The file with the arrays of the newest checkpoint removed"""
    return _newest_is(_lose_shard, directory)


def empty_checkpoint(directory):
    """The directory of the newest checkpoint emptied"""
    return _newest_is(_empty, directory)


def missing_metadata(directory):
    """The metadata of the newest checkpoint removed"""
    return _newest_is(_lose_meta, directory)


def _refused_untouched(workdir, *words, **overrides):
    """The one line of a `train` that is refused and leaves the directory as it was."""
    before = content(workdir)
    message = refused(run("train", workdir, **overrides), *words)
    assert content(workdir) == before
    return message


def all_checkpoints_damaged(directory):
    """A bit flipped in every checkpoint"""
    workdir = copy_of_undisturbed(directory)
    for step in saved_steps(workdir):
        _flip(workdir / "checkpoints" / str(step))
    message = _refused_untouched(workdir, "is damaged", "and so are all others")
    return Outcome(f"`{short(message)}`; nothing was overwritten", [2])


def checkpoint_of_another_model(directory):
    """The checkpoint of a run with averaged weights put into a run without"""
    workdir = copy_of_undisturbed(directory)
    config = json.loads((workdir / "config.json").read_text())
    config["train"]["ema_decay"] = None
    (workdir / "config.json").write_text(json.dumps(config))
    words = "checkpoints/10", "is of another model or optimiser"
    message = _refused_untouched(workdir, *words, train__ema_decay="None")
    return Outcome(f"`{short(message)}`; nothing was overwritten", [2])


def damaged_config(directory):
    """config.json cut in half"""
    workdir = copy_of_undisturbed(directory)
    os.truncate(workdir / "config.json", 300)
    message = _refused_untouched(workdir, "config.json", "cannot be read")
    return Outcome(f"`{short(message)}`", [2])


def damaged_status_and_log(directory):
    """status.json overwritten with noise; the log cut within a line, noise behind it"""
    workdir = copy_of_undisturbed(directory)
    shutil.rmtree(workdir / "checkpoints" / "10")
    (workdir / "status.json").write_bytes(random.Random(0).randbytes(200))
    whole = (workdir / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    noise = b"\x00\xff\x80{" + random.Random(1).randbytes(50).replace(b"\n", b"") + b"\n"
    (workdir / "metrics.jsonl").write_bytes(b"".join(whole[:2]) + noise + b"".join(whole[2:])[:-9])
    done = goes_on(workdir, undisturbed(), 10)
    assert "metrics.jsonl had 1 lines that cannot be read" in done.stdout
    assert noise in (workdir / "damaged" / "metrics.jsonl").read_bytes()
    return Outcome("told in a line, left out, the file kept in `damaged/`; went on", [0], 5)
