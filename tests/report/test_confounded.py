"""What a report says of runs that differ in more than one thing: which, and no verdict."""

import json
import re

import pytest
from fabricate import all_done, compare_all, edit, make_sweep, read, two_depths

from resnet_jax.config import default_config, flatten
from resnet_jax.report.axes import find_axes
from resnet_jax.report.write import write_report

VERDICT = re.compile(r"\bbeats\b|distinguishable|\bless\b|all else equal")


def test_depths_that_differ_in_nothing_else_have_a_verdict(tmp_path):
    """So that the refusals below are about what they change."""
    sweep, _ = two_depths(tmp_path)
    comparisons, confounded, _ = compare_all(read(sweep)[0])
    assert [c.verdict for c in comparisons if c.split == "test"] == ["distinguishable"]
    assert not confounded


def test_six_runs_that_differ_in_depth_shortcut_and_rate_at_once(tmp_path):
    rows = [(8, "none", 0.1), (14, "A", 0.05), (20, "B", 0.01)]
    runs = [
        (
            {
                "model.depth": depth,
                "model.shortcut": shortcut,
                "optimizer.learning_rate": rate,
                "seed": seed,
            },
            (10.0 + depth + 0.01 * seed, 5.0),
        )
        for depth, shortcut, rate in rows
        for seed in (0, 1)
    ]
    sweep = make_sweep(tmp_path / "s", runs)
    study, axes, settings = read(sweep)
    assert [axis.fields for axis in axes.axes] == [("model.depth",), ("optimizer.learning_rate",)]
    assert len(settings) == 3
    comparisons, confounded, _ = compare_all(study)
    assert comparisons == ()
    assert [pair.sentence() for pair in confounded[:2]] == [
        "depth 14 against depth 8: no verdict, as they differ in depth (14, 8), shortcut (residual A, "
        "plain) and learning rate (0.05, 0.1).",
        "depth 20 against depth 8: no verdict, as they differ in depth (20, 8), shortcut (residual B, "
        "plain) and learning rate (0.01, 0.1).",
    ]
    page, *files = write_report([str(sweep.path)])
    texts = [path.read_text() for path in (page, *files) if path.suffix in (".html", ".md", ".csv")]
    assert not any(VERDICT.search(text) for text in texts)
    assert sum("no verdict, as they differ in depth" in text for text in texts) == 3


@pytest.mark.parametrize(
    "fields",
    [
        {"data.name": ("digits", "cifar10"), "optimizer.learning_rate": (0.1, 0.01)},
        {"model.depth": (8, 14), "data.name": ("digits", "cifar10")},
        {"model.shortcut": ("none", "A"), "model.depth": (8, 14)},
    ],
)
def test_data_set_depth_and_rate_stay_axes_where_they_go_together(fields):
    """Also where another field determines them, and where they determine each other."""
    base = flatten(default_config().to_dict())
    own = {"data.name", "model.depth", "optimizer.learning_rate"}
    rows = [dict(zip(fields, values, strict=True)) for values in zip(*fields.values(), strict=True)]
    axes = find_axes(all_done(base, rows))
    assert {(name,) for name in own & fields.keys()} <= {axis.fields for axis in axes.axes}


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("evaluate__crops", 10, "crops (10, 1)"),
        ("evaluate__scales", [32], "scales (32, none)"),
        ("train__ema_decay", 0.999, "decay of averaged weights (0.999, none)"),
        ("data__eval_split", "validation", "eval split (validation, default)"),
        ("train__batch_size", 64, "batch size (64, 128)"),
        ("model__novelty", 3, "novelty (3, not set)"),
    ],
)
def test_what_no_sweep_overrides_counts_too(tmp_path, field, value, words):
    """A field of config.json that the runs of one depth have, and sweep.json does not list."""
    sweep, runs = two_depths(tmp_path)
    for path in runs[14]:
        edit(path / "config.json", **{field: value})
    comparisons, (pair,), _ = compare_all(read(sweep)[0])
    assert comparisons == ()
    assert words in pair.sentence()


def test_a_field_that_older_runs_do_not_have_has_its_default(tmp_path):
    sweep, runs = two_depths(tmp_path)
    for path in runs[14]:
        edit(path / "config.json", data__flip=None)
    comparisons, confounded, _ = compare_all(read(sweep)[0])
    assert len(comparisons) == 2
    assert not confounded
    for path in runs[8]:
        edit(path / "config.json", data__flip=True)
    comparisons, (pair,), _ = compare_all(read(sweep)[0])
    assert comparisons == ()
    assert "flip (no, yes)" in pair.sentence()


def test_where_a_run_ran_and_how_a_value_is_spelled_do_not_count(tmp_path):
    sweep, runs = two_depths(tmp_path)
    for path in runs[14]:
        edit(path / "config.json", data__num_threads=9, train__duration=200, train__mixup=0)
    comparisons, confounded, _ = compare_all(read(sweep)[0])
    assert len(comparisons) == 2
    assert not confounded


def test_runs_that_were_trained_for_other_steps_are_not_averaged(tmp_path):
    sweep, runs = two_depths(tmp_path)
    path = runs[8][1]
    edit(path / "status.json", step=100)
    lines = (path / "metrics.jsonl").read_text().splitlines()
    kept = [line for line in lines if json.loads(line)["step"] <= 100]
    (path / "metrics.jsonl").write_text("\n".join(kept) + "\n")
    _, axes, settings = read(sweep)
    assert axes.axes[1].label == "steps trained"
    assert sorted(len(setting.runs) for setting in settings) == [1, 2, 3]


def test_an_evaluation_before_the_end_is_no_final_error(tmp_path):
    sweep, runs = two_depths(tmp_path)
    path = runs[8][0] / "metrics.jsonl"
    lines = [line for line in path.read_text().splitlines() if json.loads(line)["event"] == "eval"]
    path.write_text("\n".join(lines[:-1]) + "\n")
    (setting, _) = read(sweep)[2]
    assert set(setting.errors("test")) == {1, 2}


@pytest.mark.parametrize("number", ["NaN", "null", "Infinity"])
@pytest.mark.parametrize("name", ["loss", "accuracy"])
def test_a_number_that_is_not_finite_makes_a_run_diverged(tmp_path, number, name):
    """As written by versions that called such a run done; its accuracy enters no mean."""
    sweep, runs = two_depths(tmp_path)
    path = runs[8][0] / "metrics.jsonl"
    *lines, last = path.read_text().splitlines()
    last = re.sub(rf'"{name}": [\d.]+', f'"{name}": {number}', last)
    path.write_text("\n".join([*lines, last]) + "\n")
    study, _, (setting, other) = read(sweep)
    assert setting.states() == "2 of 3 (1 diverged)"
    assert setting.summary("test").n == setting.summary("train").n == 2
    assert other.summary("test").n == 3
    (run,) = [run for run in study.runs if run.state == "diverged"]
    assert run.error == "metrics.jsonl has a loss or accuracy that is not finite"
    page = write_report([str(sweep.path)])[0].read_text()
    assert "nan" not in page.lower().replace("nanum", "")


def test_an_accuracy_that_can_be_none_is_unreadable(tmp_path):
    sweep, runs = two_depths(tmp_path)
    path = runs[8][0] / "metrics.jsonl"
    path.write_text(re.sub(r'"accuracy": [\d.]+', '"accuracy": 93.0', path.read_text()))
    states = {run.id: run.state for run in read(sweep)[0].runs}
    assert states[runs[8][0].name] == "unreadable"


def test_other_software_is_mentioned(tmp_path):
    sweep, runs = two_depths(tmp_path)
    for path in runs[14]:
        edit(path / "status.json", versions={"jax": "0.9.0"})
    for path in runs[8]:
        edit(path / "status.json", versions={"jax": "0.8.0"})
    comparisons, _, _ = compare_all(read(sweep)[0])
    assert all("; jax 0.9.0 against 0.8.0)" in c.sentence() for c in comparisons)
    page = write_report([str(sweep.path)])[0].read_text()
    assert "Not all runs used the same version of jax (0.8.0, 0.9.0)" in page


def test_bold_is_the_lowest_of_one_evaluation(tmp_path):
    runs = [
        ({"model.depth": depth, "evaluate.crops": crops}, (depth - crops / 10, 5.0))
        for depth in (8, 14)
        for crops in (1, 10)
    ]
    sweep = make_sweep(tmp_path / "s", runs)
    page = write_report([str(sweep.path)])[0].read_text()
    assert re.findall(r"<strong>(7.90|7.00|13.90|13.00)</strong>", page) == ["7.90", "7.00"]
