"""Runs that faults are done to, and what is asserted of all of them."""

import functools
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest
from commands import ROOT, assert_same_run, command, environment, run, status

LONG = {
    "train__duration": "60 steps",
    "checkpoint__every": "2 steps",
    "evaluate__every": "20 steps",
    "evaluate__batch_size": 2,
}


class Outcome(NamedTuple):
    """What came of a fault.

    Attributes:
        happened: in words.
        exit_codes: of the processes, in order.
        steps_lost: that were trained again, or None where none were to lose.
    """

    happened: str
    exit_codes: list[int]
    steps_lost: int | None = None


@functools.cache
def undisturbed(**overrides):
    """The directory of a run that nothing happened to."""
    folder = Path(tempfile.mkdtemp(prefix="undisturbed_"))
    done = run("train", folder / "run", **overrides)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def copy_of_undisturbed(directory, name="run"):
    """A run that was stopped at step 10 of 10 and has checkpoints of steps 5 and 10."""
    shutil.copytree(undisturbed(), directory / name)
    return directory / name


def content(directory):
    """Path → digest of all files, without what says who was here last."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name not in (".lock", ".origin", "status.json")
    }


def goes_on(workdir, expected, step, **overrides):
    """Run the same command; the run ends as if nothing had happened."""
    done = run("train", workdir, **overrides)
    assert done.returncode == 0, done.stderr
    assert status(workdir)["state"] == "done"
    assert_same_run(workdir, expected, step)
    return done


def refused(done, *words):
    """One line on stderr, exit code 2."""
    assert done.returncode == 2, done
    assert done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr
    return done.stderr.removeprefix("error: ").strip()


def start_told(workdir, log, **overrides):
    """Start a training that tells in a file what it compiles."""
    with log.open("w") as file:
        return subprocess.Popen(
            command("train", workdir, **overrides),
            cwd=ROOT,
            env=environment(JAX_LOG_COMPILES="1"),
            stdout=file,
            stderr=file,
        )


def events(workdir):
    """(event, step) of each line of the log so far."""
    if not (workdir / "metrics.jsonl").exists():
        return []
    lines = (workdir / "metrics.jsonl").read_text().split("\n")[:-1]
    return [(line["event"], line["step"]) for line in map(json.loads, lines)]


def saving(workdir):
    """Whether a save is under way: Orbax writes to a directory that is no number."""
    folder = workdir / "checkpoints"
    return folder.exists() and any(not path.name.isdigit() for path in folder.iterdir())


def files_of(directory):
    return [path for path in directory.rglob("*") if path.is_file()]


def mount(*words):
    if os.getuid() != 0 or subprocess.run(["mount", *words], capture_output=True).returncode != 0:
        pytest.skip("mounting needs root")


def short(message, length=160):
    message = message.replace(f"{tempfile.gettempdir()}/", "…/")
    return message if len(message) <= length else message[: length - 1] + "…"
