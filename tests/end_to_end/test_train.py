"""Training, stopping, killing, going on: real processes and real signals."""

import json
import os
import random
import shutil
import signal
import subprocess

import pytest
from commands import (
    ROOT,
    assert_same_run,
    command,
    environment,
    launch,
    metrics,
    saved_state,
    saved_steps,
    start,
    status,
    wait_for,
)

from resnet_jax.cli import main

LONG = {
    "train__duration": "60 steps",
    "checkpoint__every": "2 steps",
    "evaluate__every": "20 steps",
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "undisturbed"
    done = launch("train", workdir)
    assert done.returncode == 0, done.stderr
    return workdir


@pytest.fixture(scope="module")
def undisturbed_long(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "long"
    done = launch("train", workdir, **LONG)
    assert done.returncode == 0, done.stderr
    return workdir


def test_run_directory_is_complete(undisturbed):
    config = json.loads((undisturbed / "config.json").read_text())
    assert (config["model"]["depth"], config["train"]["duration"]) == (8, "10 steps")
    data = json.loads((undisturbed / "data.json").read_text())
    assert (data["train_examples"], data["eval_examples"]) == (1437, 360)
    state = status(undisturbed)
    assert (state["state"], state["step"], state["total_steps"]) == ("done", 10, 10)
    assert state["versions"]["jax"]
    assert state["devices"] == ["cpu:0"]
    events = [(line["event"], line["step"]) for line in metrics(undisturbed)]
    trained = [("train", step) for step in (2, 4, 6, 8, 10)]
    assert events == sorted(
        [*trained, ("eval", 5), ("eval", 10)], key=lambda e: (e[1], e[0] == "eval")
    )
    assert saved_steps(undisturbed) == [5, 10]


def test_piped_output_is_plain_lines(undisturbed, tmp_path):
    printed = launch("train", tmp_path / "run", train__duration="2 steps")
    assert printed.stderr == ""
    assert "\x1b" not in printed.stdout
    assert "75,002" in printed.stdout
    assert "train step       2" in printed.stdout


def test_evaluate_prints_what_training_found(undisturbed):
    printed = launch("evaluate", undisturbed, "--json")
    result = json.loads(printed.stdout)
    found = status(undisturbed)["result"]
    assert result == found | {"step": 10}
    assert result["examples"] == 360
    best = json.loads(launch("evaluate", undisturbed, "--json", "--step=best").stdout)
    scores = {m["step"]: m["accuracy"] for m in metrics(undisturbed) if m["event"] == "eval"}
    assert best["accuracy"] == max(scores.values())
    train = json.loads(launch("evaluate", undisturbed, "--json", "--split=train").stdout)
    assert train["examples"] == 1437


def test_five_steps_and_five_in_a_new_process_are_ten(undisturbed, tmp_path):
    resumed = tmp_path / "resumed"
    shutil.copytree(undisturbed, resumed)
    shutil.rmtree(resumed / "checkpoints" / "10")
    done = launch("train", resumed)
    assert done.returncode == 0, done.stderr
    assert "going on from the checkpoint of step 5" in done.stdout
    assert_same_run(resumed, undisturbed, 10)


def test_the_same_command_after_the_end_changes_nothing(undisturbed, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(undisturbed, again)
    done = launch("train", again)
    assert done.returncode == 0
    assert_same_run(again, undisturbed, 10)
    assert status(again)["state"] == "done"


@pytest.mark.parametrize(
    ("number", "code", "state"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "preempted")],
)
def test_a_signal_saves_and_the_same_command_goes_on(
    undisturbed_long, tmp_path, number, code, state
):
    workdir = tmp_path / "run"
    process = start(workdir, **LONG)
    wait_for(lambda: (workdir / "metrics.jsonl").exists(), process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors
    stopped = status(workdir)
    assert stopped["state"] == state
    assert 0 < stopped["step"] == saved_steps(workdir)[-1] < 60
    assert launch("train", workdir, **LONG).returncode == 0
    assert_same_run(workdir, undisturbed_long, 60)


def saving(workdir):
    """Whether a save is under way: Orbax writes to a directory that is no number."""
    return any(not path.name.isdigit() for path in (workdir / "checkpoints").iterdir())


def test_kill_during_saves_resumes_from_the_last_complete_step(undisturbed_long, tmp_path):
    workdir = tmp_path / "run"
    rng = random.Random(0)
    for _ in range(3):
        process = start(workdir, **LONG)
        before = saved_steps(workdir) if workdir.exists() else []
        wait_for(lambda b=before: saved_steps(workdir) > b, process)
        for _ in range(rng.randrange(1, 4)):
            wait_for(lambda: saving(workdir), process)
        process.kill()
        process.communicate()
        assert status(workdir)["state"] == "running"
        assert saved_steps(workdir)
    done = launch("train", workdir, **LONG)
    assert done.returncode == 0, done.stderr
    assert "going on from the checkpoint" in done.stdout
    assert_same_run(workdir, undisturbed_long, 60)


@pytest.mark.parametrize("placement", ["device", "stream"])
def test_a_tfds_set_is_prepared_trained_and_evaluated(
    tmp_path, write_fashion_mnist, fashion_arrays, placement
):
    downloads, data_dir = tmp_path / "downloads", tmp_path / "tfds"
    write_fashion_mnist(downloads, fashion_arrays)
    words = ["prepare", "fashion_mnist", f"--data_dir={data_dir}", f"--manual_dir={downloads}"]
    assert main(words) == 0
    workdir = tmp_path / "run"
    fields = {
        "data__name": "fashion_mnist",
        "data__data_dir": data_dir,
        "data__placement": placement,
    }
    done = launch("train", workdir, train__duration="4 steps", **fields)
    assert done.returncode == 0, done.stderr
    result = json.loads(launch("evaluate", workdir, "--json").stdout)
    assert (result["examples"], result["step"]) == (11, 4)
    data = json.loads((workdir / "data.json").read_text())
    assert (data["class_names"][0], data["image_shape"]) == ("T-shirt/top", [28, 28, 1])


def test_tensorboard_events_hold_the_numbers_of_the_log(tmp_path):
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    workdir = tmp_path / "run"
    assert launch("train", workdir, log__tensorboard=True).returncode == 0
    (path,) = (workdir / "tensorboard").iterdir()
    content, scalars = path.read_bytes(), {}
    while content:
        # A record: length, checksum, data, checksum.
        length = int.from_bytes(content[:8], "little")
        event = Event.FromString(content[12 : 12 + length])
        content = content[16 + length :]
        for value in event.summary.value:
            scalars[value.tag, event.step] = value.simple_value
    for line in metrics(workdir):
        assert scalars[f"{line['event']}/loss", line["step"]] == pytest.approx(line["loss"])


def test_divergence_stops_with_its_own_code_and_keeps_a_good_checkpoint(tmp_path):
    workdir = tmp_path / "run"
    overrides = {"optimizer__learning_rate": 1e30, "checkpoint__every": "1 step",
                 "schedule__warmup": "4 steps", "train__ema_decay": None}  # fmt: skip
    done = launch("train", workdir, **overrides)
    assert done.returncode == 3
    assert done.stderr.startswith("error: loss or weights are not finite at step")
    assert status(workdir)["state"] == "diverged"
    last = saved_steps(workdir)[-1]
    assert last < status(workdir)["step"]
    assert all(abs(array).max() < float("inf") for array in saved_state(workdir, last).values())


def test_a_full_disk_is_one_clear_line(tmp_path):
    mounted = tmp_path / "small"
    mounted.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(mounted)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small file system needs root")
    try:
        done = launch("train", mounted / "run")
        assert done.returncode == 2, done.stderr
        assert done.stderr.count("\n") == 1
        assert "could not be saved (it needs" in done.stderr
        assert "there is no checkpoint yet" in done.stderr
        assert status(mounted / "run")["state"] == "failed"
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


def test_a_failed_write_keeps_the_last_checkpoint(undisturbed, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(undisturbed, workdir)
    shutil.rmtree(workdir / "checkpoints" / "10")
    # A file that may not grow is to the writer what a full disk is.
    words = ["bash", "-c", 'ulimit -f 20 && exec "$@"', "bash", *command("train", workdir)]
    limited = subprocess.run(
        words,
        cwd=ROOT,
        env=environment(JAX_ENABLE_COMPILATION_CACHE="0"),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert limited.returncode == 2, limited.stderr
    message = limited.stderr.splitlines()[-1]
    assert "could not be saved" in message
    assert "the one of step 5 is good" in message
    assert status(workdir)["state"] == "failed"
    assert launch("train", workdir).returncode == 0
    assert_same_run(workdir, undisturbed, 10)
