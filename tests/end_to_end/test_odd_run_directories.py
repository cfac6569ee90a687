"""Run directories with odd files, through every command: one line and exit code 2, or it works."""

import json
import os
import shutil

import pytest
from commands import SMALL, command_line, run
from faulty_runs import copy_of_undisturbed
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

VALUES = st.sampled_from(
    [None, True, -1, 10**400, 1e308, float("nan"), float("inf"), "", "x", [], [[]], [{}], {}, {"a": {}}, {"a.b": 1}]
)  # fmt: skip
FILES = ("config.json", "data.json", "status.json", "metrics.jsonl")
READERS = {
    "evaluate": lambda workdir: ["evaluate", f"--workdir={workdir}"],
    "export": lambda workdir: ["export", f"--workdir={workdir}", f"--out={workdir}.safetensors"],
    "analyze": lambda workdir: ["analyze", "features", str(workdir), "--examples=8"],
    "init_from": lambda workdir: [
        "train",
        "--config=configs/digits.py",
        f"--workdir={workdir}_new",
        *(f"--config.{name}={value}" for name, value in SMALL.items()),
        "--config.train.duration=1 step",
        f"--config.model.init_from={workdir}",
    ],
}


def answers(done):
    """The command worked, or said in one line why not."""
    assert done.returncode in (0, 2), (done.args, done.stderr)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == (done.returncode == 2), done.stderr
    assert len(done.stderr) < 10_000
    assert "Traceback" not in done.stderr + done.stdout
    return done.returncode


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    return copy_of_undisturbed(tmp_path_factory.mktemp("odd"))


def copy(intact):
    for name in ("copy", "copy_new"):
        shutil.rmtree(intact.with_name(name), ignore_errors=True)
    return shutil.copytree(intact, intact.with_name("copy"))


def make_device(path):
    path.symlink_to("/dev/zero")


def make_loop(path):
    path.symlink_to(path)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, make_device, make_loop])
def test_what_is_not_a_file(intact, name, make):
    workdir = copy(intact)
    (workdir / name).unlink()
    make(workdir / name)
    codes = {"train": answers(run("train", workdir))}
    codes["evaluate"] = answers(command_line().run(*READERS["evaluate"](workdir)))
    # A link that leads nowhere is no file, and `train` writes one.
    if name == "config.json" or (name == "data.json" and make is not make_loop):
        assert codes["evaluate"] == 2


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b"[" * 10**6, b"\xff\x00"])
@pytest.mark.parametrize("name", FILES[:3])
def test_any_content(intact, name, content):
    workdir = copy(intact)
    (workdir / name).write_bytes(content)
    codes = {"train": answers(run("train", workdir))}
    if name != "status.json":
        for reader in ("evaluate", "export", "init_from"):
            # An empty config is that of a default run.
            codes[reader] = answers(command_line().run(*READERS[reader](workdir)))
            assert codes[reader] == 2, reader


@settings(
    deadline=None,
    max_examples=12,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
@given(st.data(), st.sampled_from(FILES), VALUES, st.sampled_from(["train", *READERS]))
def test_a_value_of_any_kind(intact, data, name, value, reader):
    workdir = copy(intact)
    lines = (workdir / name).read_text()
    lines = lines.splitlines() if name.endswith("l") else [lines]
    number = data.draw(st.integers(0, len(lines) - 1))
    tree = json.loads(lines[number])
    places = [(tree, key) for key in tree]
    places += [
        (tree[key], inner) for key in tree if isinstance(tree[key], dict) for inner in tree[key]
    ]
    place, key = data.draw(st.sampled_from(places))
    place[key] = value
    lines[number] = json.dumps(tree)
    (workdir / name).write_text("\n".join(lines) + "\n")
    if reader == "train":
        answers(run("train", workdir))
    else:
        answers(command_line().run(*READERS[reader](workdir)))


@pytest.mark.parametrize("name", ["²", "٣", "1" * 250, "x" * 250, "0999"])
def test_odd_names_among_the_checkpoints(intact, name):
    workdir = copy(intact)
    (workdir / "checkpoints" / name).mkdir()
    # No step has so many digits.
    assert answers(command_line().run(*READERS["evaluate"](workdir))) == 0


def test_a_name_that_is_too_long(tmp_path):
    for reader in READERS.values():
        assert answers(command_line().run(*reader(tmp_path / ("x" * 300)))) == 2
    assert answers(run("train", tmp_path / ("x" * 300))) == 2
    assert answers(command_line().run("report", str(tmp_path / ("x" * 300)))) == 2
