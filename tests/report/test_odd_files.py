"""Files that anybody may have written: a report is made, and the other runs are in it."""

import csv
import json
import os
import shutil

import pytest
from fabricate import edit, make_sweep
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from resnet_jax.cli import main
from resnet_jax.report import write

FACTS = {
    "class_names": ["cat", "dog"],
    "image_shape": [8, 8, 1],
    "train_examples": 128,
    "eval_examples": 10_000,
    "eval_split": "test",
    "mean": [0.3],
    "std": [0.2],
    "measured": {"mean": [0.3], "std": [0.2]},
    "interpolation": "bilinear",
}
NUMBERS = st.floats() | st.integers() | st.sampled_from([10**400, -(10**30), True, 1e308])
# Shrinking would take minutes.
PHASES = (Phase.explicit, Phase.generate)
SCALARS = st.none() | NUMBERS | st.text(max_size=8) | st.sampled_from(["$", "done", "1 epoch"])
JSON = st.recursive(
    SCALARS,
    lambda part: (
        st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=4), part, max_size=3)
    ),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    """A sweep of four runs that are done."""
    path = tmp_path_factory.mktemp("odd") / "sweep"
    runs = [
        ({"model.depth": d, "seed": s}, (10.0 + d / 3 + s, 5.0)) for d in (8, 14) for s in (0, 1)
    ]
    for run in sorted(make_sweep(path, runs).runs.iterdir()):
        edit(run / "data.json", **FACTS)
    return path


@pytest.fixture(scope="module", autouse=True)
def without_figures():
    """They take longer than everything else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "figures_of", lambda *_: [])
        patch.setattr(write, "save_pictures", lambda *_: [])
        yield


def copy(intact):
    path = intact.parent / "copy"
    shutil.rmtree(path, ignore_errors=True)
    return shutil.copytree(intact, path)


def reported(path):
    """Run → (state, reason) in the report."""
    assert main(["report", str(path)]) == 0
    with (path / "report" / "report_runs.csv").open(newline="") as file:
        return {row["id"]: (row["state"], row["error"]) for row in csv.DictReader(file)}


def places(tree, before=()):
    """The path of keys to every value of a JSON tree."""
    for key, value in tree.items():
        yield (*before, key)
        if isinstance(value, dict):
            yield from places(value, (*before, key))


def put(tree, place, value):
    *outer, last = place
    for key in outer:
        tree = tree[key]
    tree[last] = value


@settings(deadline=None, max_examples=30, phases=PHASES, suppress_health_check=list(HealthCheck))
@given(
    st.data(), st.sampled_from(["config.json", "data.json", "status.json", "metrics.jsonl"]), JSON
)
def test_a_value_of_any_kind_hides_no_other_run(intact, data, name, value):
    sweep = copy(intact)
    odd, *others = sorted((sweep / "runs").iterdir())
    lines = (
        (odd / name).read_text().splitlines() if name.endswith("l") else [(odd / name).read_text()]
    )
    number = data.draw(st.integers(0, len(lines) - 1))
    tree = json.loads(lines[number])
    place = data.draw(st.sampled_from(list(places(tree))))
    # That would be the config of another run.
    assume(value not in (0, 1, 8, 14) or isinstance(value, bool))
    put(tree, place, value)
    lines[number] = json.dumps(tree)
    (odd / name).write_text("\n".join(lines) + "\n")
    states = reported(sweep)
    for other in others:
        assert states[other.name] == ("done", "")
    assert odd.name in states


@settings(deadline=None, max_examples=15, phases=PHASES, suppress_health_check=list(HealthCheck))
@given(st.data(), JSON)
def test_a_value_of_any_kind_in_a_run_of_sweep_json(intact, data, value):
    sweep = copy(intact)
    tree = json.loads((sweep / "sweep.json").read_text())
    put(tree["runs"][0], data.draw(st.sampled_from(list(places(tree["runs"][0])))), value)
    (sweep / "sweep.json").write_text(json.dumps(tree))
    states = reported(sweep)
    assert {run["id"] for run in tree["runs"][1:]} <= states.keys()


CONTENTS = [b"", b"{}", b"[]", b"null", b"1", b"[" * 10**6, b'\xef\xbb\xbf{"state": "done"}',
            '{"state": "done"}'.encode("utf-16"), b"\xff\x00", b'{"a":' * 500 + b"1" + b"}" * 500]  # fmt: skip


@pytest.mark.parametrize("name", ["config.json", "data.json", "status.json", "metrics.jsonl"])
def test_files_of_any_content(intact, name):
    sweep = copy(intact)
    odd, *others = sorted((sweep / "runs").iterdir())
    for content in CONTENTS:
        (odd / name).write_bytes(content + b"\n")
        states = reported(sweep)
        assert all(states[other.name] == ("done", "") for other in others), content


def make_fifo(path):
    os.mkfifo(path)


def make_endless(path):
    path.symlink_to("/dev/zero")


def make_loop(path):
    path.symlink_to(path)


def make_huge(path):
    with path.open("wb") as file:
        file.truncate(2**40)


@pytest.mark.parametrize("make", [os.mkdir, make_fifo, make_endless, make_loop, make_huge])
@pytest.mark.parametrize("name", ["config.json", "data.json", "status.json", "metrics.jsonl"])
def test_what_is_not_a_file_is_not_read(intact, make, name):
    sweep = copy(intact)
    odd, *others = sorted((sweep / "runs").iterdir())
    (odd / name).unlink()
    make(odd / name)
    states = reported(sweep)
    assert all(states[other.name] == ("done", "") for other in others)
    # A link that leads nowhere is no file at all.
    assert states[odd.name][0] == "unreadable" or make is make_loop


def test_a_truncated_log_is_named(intact):
    sweep = copy(intact)
    first, second, *_ = sorted((sweep / "runs").iterdir())
    for run, kept in ((first, slice(0, 21)), (second, slice(2, None))):
        lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
        (run / "metrics.jsonl").write_text("".join(lines[kept]))
        edit(run / "config.json", log__every="10 steps")
    assert main(["report", str(sweep)]) == 0
    text = (sweep / "report" / "report.md").read_text()
    assert "metrics.jsonl ends at step 140 of 200" in text
    assert "metrics.jsonl lacks 2 train lines before step 200" in text


def test_a_corrupt_sweep_hides_no_other_one(intact, tmp_path):
    shutil.copytree(intact, tmp_path / "a")
    shutil.copytree(intact, tmp_path / "b")
    (tmp_path / "a" / "sweep.json").write_text("{}")
    states = reported(tmp_path)
    assert states["a/sweep.json"][0] == "unreadable"
    assert sum(state == "done" for state, _ in states.values()) >= 4
