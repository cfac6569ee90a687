"""The run directory as a contract."""

import errno
import fcntl
import json
import os
import shutil

import pytest

from resnet_jax.config import default_config
from resnet_jax.errors import UserError
from resnet_jax.training import run_directory
from resnet_jax.training.run_directory import RunDirectory


@pytest.fixture
def run(tmp_path):
    directory = RunDirectory(tmp_path / "run")
    directory.create(default_config().to_dict())
    return directory


def test_config_comes_back_as_it_was(run):
    assert run.load_config({}).to_dict() == default_config().to_dict()
    assert run.load_config({"parallel.num_devices": "3"}).parallel.num_devices == 3


def test_fields_that_an_earlier_version_had_not_have_their_defaults(run):
    config = json.loads((run.path / "config.json").read_text())
    del config["seed"], config["train"]["clip_gradient_norm"], config["log"]
    (run.path / "config.json").write_text(json.dumps(config))
    assert run.load_config({}).to_dict() == default_config().to_dict()
    run.create(default_config().to_dict())


def test_what_was_trained_cannot_be_overridden(run):
    with pytest.raises(UserError, match=r"only these may change: .*parallel\.num_devices"):
        run.load_config({"train.batch_size": "3"})


def test_lines_behind_a_checkpoint_are_forgotten(run):
    for step in (5, 10, 15):
        run.log("train", step, loss=1.0 / step)
    run.log("eval", 10, loss=0.5)
    run.forget_after(10)
    assert [(line["event"], line["step"]) for line in run.read_metrics()] == [
        ("train", 5),
        ("train", 10),
        ("eval", 10),
    ]


def test_a_line_cut_short_by_a_crash_is_left_out(run):
    run.log("train", 5, loss=0.1)
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"event": "train", "st')
    assert [line["step"] for line in run.read_metrics()] == [5]
    run.forget_after(5)
    run.log("train", 6, loss=0.1)
    assert [line["step"] for line in run.read_metrics()] == [5, 6]


def test_status_is_replaced_whole(run):
    run.write_status("running", 3, 10, devices=["cpu:0"])
    run.write_status("done", 10, 10, result={"accuracy": 0.5})
    status = run.read_status()
    assert (status["state"], status["step"], status["result"]) == ("done", 10, {"accuracy": 0.5})
    assert {path.name for path in run.path.iterdir()} == {
        ".lock",
        ".origin",
        "config.json",
        "status.json",
    }


def test_a_status_alone_is_no_obstacle(tmp_path):
    """Its process died before it began; another tells so in its place."""
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    run.write_status("failed", 0, 0, error="killed")
    # Killed while it wrote its config.
    (run.path / ".config.json.123").write_text("{")
    run.create(default_config().to_dict())
    assert run.read_config()["seed"] == 0
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds no run"):
        RunDirectory(tmp_path / "other").create(default_config().to_dict())


def test_the_second_process_is_refused_and_told_who_is_there(run):
    """The lock is of this object, so another one stands for another process."""
    with pytest.raises(UserError, match=rf"process {os.getpid()} on .+ is training there"):
        RunDirectory(run.path).create(default_config().to_dict())
    run.lock()
    run.unlock()
    RunDirectory(run.path).create(default_config().to_dict())


def test_where_the_file_system_has_no_locks_nothing_is_refused(run, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    RunDirectory(run.path).create(default_config().to_dict())


def test_what_a_kill_left_half_written_is_removed(run):
    (run.path / ".1f2e3d.partial").write_text('{"state": "ru')
    run.unlock()
    run.lock()
    assert {path.name for path in run.path.iterdir()} == {".lock", ".origin", "config.json"}


def test_a_damaged_line_is_named_and_left_out_by_a_resumed_run(run):
    for step in (1, 2, 3):
        run.log("train", step, loss=0.1)
    path = run.path / "metrics.jsonl"
    first, second, third = path.read_bytes().splitlines(keepends=True)
    damaged = first + b'\x00\xff{"event"\r' + second + b'{"a": 1}\n' + third
    path.write_bytes(damaged)
    with pytest.raises(UserError, match="line 2 cannot be read"):
        list(run.read_metrics())
    assert [line["step"] for line in run.readable_metrics()] == [1, 3]
    assert run.forget_after(2) == 2
    assert [line["step"] for line in run.read_metrics()] == [1]
    assert (run.path / "damaged" / "metrics.jsonl").read_bytes() == damaged


def test_a_directory_that_another_machine_does_not_see_is_told(run, tmp_path, monkeypatch):
    RunDirectory(run.path, writes=False).wait_until_seen()
    monkeypatch.setattr(run_directory, "SEEN_SECONDS", 0)
    with pytest.raises(UserError, match="is not seen on .+use a directory that all processes see"):
        RunDirectory(tmp_path / "own", writes=False).wait_until_seen()


def test_a_process_that_does_not_write_leaves_a_damaged_log_to_the_one_that_does(run):
    path = run.path / "metrics.jsonl"
    path.write_text("damaged\n")
    assert RunDirectory(run.path, writes=False).forget_after(2) == 0
    assert path.read_text() == "damaged\n"
    assert not (run.path / "damaged").exists()


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "\x00"])
def test_a_damaged_status_is_no_obstacle_to_training(run, text):
    run.write_status("diverged", 3, 10)
    assert run.state_when_over() == "diverged"
    (run.path / "status.json").write_text(text)
    assert run.state_when_over() is None
    with pytest.raises(UserError, match="cannot be read"):
        run.read_status()


def test_what_is_set_aside_twice_is_kept_twice(run):
    for content in ("a", "b"):
        (run.path / "10").write_text(content)
        run.set_aside(run.path / "10")
    kept = {path.name: path.read_text() for path in (run.path / "damaged").iterdir()}
    assert kept == {"10": "a", "10.2": "b"}


def test_a_run_does_not_go_on_with_other_data(run):
    facts = {
        "train_examples": 10,
        "eval_examples": 4,
        "class_names": ["cat", "dog"],
        "mean": [0.5],
        "std": [0.2],
    }
    run.write_data(facts | {"train_examples": 9})
    run.write_data(facts)
    (run.checkpoints / "7").mkdir(parents=True)
    run.write_data(facts | {"mean": [0.505]})
    for change, words in (
        ({"train_examples": 11}, "began with other data: train_examples was 10, is 11"),
        ({"class_names": ["cat", "fox"]}, "classes: 'dog' is not there, 'fox' is new"),
        ({"mean": [0.52]}, "the colours of the training images differ"),
    ):
        with pytest.raises(UserError, match=words):
            run.write_data(facts | change)
    assert run.read_data()["train_examples"] == 10


def test_constants_are_those_of_the_start_whatever_is_measured_now(run):
    facts = {
        "train_examples": 10,
        "eval_examples": 4,
        "class_names": ["cat", "dog"],
        "mean": [0.5],
        "std": [0.2],
    }
    (run.checkpoints / "7").mkdir(parents=True)
    now = facts | {"measured": {"mean": [0.55], "std": [0.2]}}
    for before, refused in (
        (facts | {"measured": {"mean": [0.55], "std": [0.2]}}, False),
        (facts | {"measured": {"mean": [0.5], "std": [0.2]}}, True),
    ):
        (run.path / "data.json").write_text(json.dumps(before))
        if refused:
            with pytest.raises(UserError, match="the colours of the training images differ"):
                run.write_data(now)
        else:
            run.write_data(now)
        assert run.read_data() == before


def test_a_run_that_lost_its_config_is_named_and_the_advice_is_accepted(tmp_path):
    run = RunDirectory(tmp_path / "run")
    run.make()
    run.checkpoints.mkdir()
    run.write_status("failed", 3, 10)
    config = default_config().to_dict()
    for refused in (lambda: run.claim(config), run.read_config):
        with pytest.raises(UserError, match="lost its config.json; put it back, or remove"):
            refused()
    shutil.rmtree(run.path)
    run.create(config)
    assert run.read_config() == json.loads(json.dumps(config))
