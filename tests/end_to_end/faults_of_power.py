"""Power cuts and failing disks, done to a separate file system; they need root and a loop device."""

import fcntl
import os
import random
import signal
import struct
import subprocess
import time

from commands import ROOT, command, environment, run, saved_steps, status, wait_for
from faulty_runs import LONG, Outcome, events, goes_on, mount, saving, short, undisturbed

# ioctl(2) of ext4 and XFS: from here on nothing is written, not even what waits in memory.
SHUTDOWN, WITHOUT_FLUSH = 0x8004587D, 2


class Disk:
    """An ext4 file system in a file, in a context.

    Args:
        directory: where the file and the mount point are made.
    """

    def __init__(self, directory):
        self._image, self.path = directory / "disk.img", directory / "disk"

    def __enter__(self):
        self.path.mkdir()
        with self._image.open("wb") as file:
            file.truncate(2**27)
        subprocess.run(["mkfs.ext4", "-q", self._image], check=True)
        self._mount()
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", self.path], check=True)

    def _mount(self):
        mount("-o", "loop", self._image, self.path)

    def cut_power(self):
        """From here on nothing is written, not even what waits in memory."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", WITHOUT_FLUSH))
        finally:
            os.close(descriptor)

    def restore_power(self):
        """Mount the disk again, with what had reached it."""
        subprocess.run(["umount", self.path], check=True)
        self._mount()

    def turn_read_only(self):
        """Do what the kernel does after an error of the disk."""
        mount("-o", "remount,abort", self.path)


def train_on(disk, fields):
    """Start a training on a disk, with all caches there."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command("train", disk.path / "run", **fields),
        cwd=ROOT,
        env=environment(RESNET_JAX_CACHE=str(disk.path / "cache")),
        stdout=pipe,
        stderr=pipe,
        text=True,
    )


def power_cut_after_the_end(directory):
    """Power cut at the moment at which a training ended with exit code 0"""
    with Disk(directory) as disk:
        workdir = disk.path / "run"
        process = train_on(disk, {})
        _, errors = process.communicate(timeout=300)
        disk.cut_power()
        assert process.returncode == 0, errors
        disk.restore_power()
        assert (status(workdir)["state"], status(workdir)["saved_step"]) == ("done", 10)
        assert saved_steps(workdir) == [5, 10]
        goes_on(workdir, undisturbed(), 10)
        assert run("evaluate", workdir).returncode == 0
    return Outcome("all files were there", [0, 0], 0)


def power_cuts_at_random_moments(directory, cuts=20):
    """Power cuts at 20 random moments of a training that saves at every second step"""
    rng, lost, in_saves = random.Random(0), [], 0
    fields = LONG | {"train__duration": "400 steps", "evaluate__every": "50 steps"}
    with Disk(directory) as disk:
        workdir = disk.path / "run"
        for _ in range(cuts):
            process = train_on(disk, fields)
            before = len(events(workdir))
            # In every other life from the start; else once it trains.
            if rng.random() < 0.5:
                wait_for(lambda b=before: len(events(workdir)) != b, process)
            time.sleep(rng.uniform(0, 4))
            # So that what is read here is the state at the cut.
            process.send_signal(signal.SIGSTOP)
            saved, under_way = _reported(workdir), saving(workdir)
            reached = max((step for _, step in events(workdir)), default=0)
            disk.cut_power()
            process.kill()
            output = process.communicate()
            assert process.returncode in (-signal.SIGKILL, 0), output
            in_saves += under_way
            disk.restore_power()
            kept = max(saved_steps(workdir), default=0)
            assert kept >= saved, (kept, saved)
            lost.append(max(0, reached - kept))
        done = goes_on(workdir, undisturbed(**fields), 400, **fields)
        assert "corrupt" not in done.stdout + done.stderr
        assert "damaged" not in done.stdout + done.stderr
    happened = f"{cuts} cuts, {in_saves} during a save: always resumed, no file was corrupt"
    return Outcome(happened, [-9] * cuts + [0], max(lost))


def _reported(workdir):
    """The step of the newest checkpoint that the run says is saved."""
    return status(workdir).get("saved_step", 0) if (workdir / "status.json").exists() else 0


def disk_turns_read_only(directory, times=3):
    """A file system that turns read-only while a training saves, three times"""
    fields = LONG | {"train__duration": "400 steps"}
    rng, seconds, codes, lines = random.Random(0), [], [], []
    for number in range(times):
        folder = directory / str(number)
        folder.mkdir()
        with Disk(folder) as disk:
            process = train_on(disk, fields)
            wait_for(lambda d=disk: events(d.path / "run"), process)
            time.sleep(rng.uniform(0, 1))
            disk.turn_read_only()
            begin = time.monotonic()
            _, errors = process.communicate(timeout=60)
            seconds.append(time.monotonic() - begin)
            codes.append(process.returncode)
            assert errors.count("\n") == 1, errors
            assert errors.startswith("error: "), errors
            lines.append(errors.removeprefix("error: ").strip())
    assert codes == [2] * times
    happened = f"`{short(lines[0])}`; ended within {max(seconds):.0f} s"
    return Outcome(happened, codes)
