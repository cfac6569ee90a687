"""Training, evaluating and going on, in processes of their own; faults are in `faults.py`."""

import gzip
import json
import shutil

import pytest
from commands import (
    assert_same_run,
    launch,
    metrics,
    saved_steps,
    status,
)

from resnet_jax.cli import main
from resnet_jax.errors import UserError
from resnet_jax.training.profile import steps_to_profile


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "undisturbed"
    done = launch("train", workdir)
    assert done.returncode == 0, done.stderr
    return workdir


def test_run_directory_is_complete(undisturbed):
    config = json.loads((undisturbed / "config.json").read_text())
    assert (config["model"]["depth"], config["train"]["duration"]) == (8, 10)
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


def test_a_profile_holds_the_steps_that_were_asked_for(tmp_path):
    workdir = tmp_path / "run"
    done = launch("train", workdir, "--profile=3:5", train__duration="6 steps")
    assert done.returncode == 0, done.stderr
    (folder,) = (workdir / "profile" / "plugins" / "profile").iterdir()
    assert [path.stat().st_size > 0 for path in folder.glob("*.xplane.pb")] == [True]
    with gzip.open(folder / "perfetto_trace.json.gz") as file:
        events = json.load(file)["traceEvents"]
    steps = [event["args"]["step_num"] for event in events if event.get("name") == "train"]
    assert steps == ["3", "4"]
    assert all("mfu" not in line for line in metrics(workdir))
    again = launch("train", workdir, "--profile=3:5", train__duration="6 steps")
    assert "warning: no trace" in again.stdout


@pytest.mark.parametrize("steps", ["5", "5:3", "2:2", "8:12", "a:b"])
def test_a_profile_of_no_such_steps_is_one_clear_line(steps):
    with pytest.raises(UserError, match="--profile"):
        steps_to_profile(steps, total_steps=10)
