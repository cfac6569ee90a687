"""Runs that name one data set, but read others: neither averaged, nor compared, nor repeats."""

import pytest
from fabricate import compare_all, edit, make_sweep, read, two_depths

from resnet_jax.report.study import read_study

FACTS = {
    "class_names": ["cat", "dog"],
    "image_shape": [8, 8, 1],
    "train_examples": 100,
    "eval_examples": 10_000,
    "eval_split": "test",
    "mean": [0.3],
    "std": [0.2],
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"class_names": ["dog", "cat"]}, "2 classes: dog, cat"),
        ({"train_examples": 90}, "90 training images"),
        ({"eval_examples": 9_000}, "9000 evaluated images"),
        ({"mean": [0.5]}, "mean 0.5"),
        ({"eval_split": "validation"}, "evaluated on validation"),
    ],
)
def test_runs_on_other_data_of_the_same_name_are_neither_averaged_nor_compared(
    tmp_path, changes, words
):
    sweep, runs = two_depths(tmp_path)
    for path in [*runs[8], *runs[14]]:
        edit(path / "data.json", **FACTS)
    assert len(compare_all(read(sweep)[0])[2]) == 2
    # One seed of the one depth, and the other depth.
    for path in [runs[8][0], *runs[14]]:
        edit(path / "data.json", **changes)
    study, axes, settings = read(sweep)
    assert [axis.fields for axis in axes.axes] == [("model.depth",), ("data.name",)]
    assert [len(setting.runs) for setting in settings] == [1, 2, 3]
    assert any(words in setting.label for setting in settings)
    comparisons, _, _ = compare_all(study)
    # The seed of depth 8 and the runs of depth 14 on the same data.
    (test,) = [c for c in comparisons if c.split == "test"]
    assert len(test.baseline.runs) == 1
    assert test.verdict == "no interval: one pair of seeds, or equal differences"


def test_a_rounding_of_the_mean_and_a_run_that_has_not_begun_are_no_other_data(tmp_path):
    sweep, runs = two_depths(tmp_path)
    for i, path in enumerate([*runs[8], *runs[14]]):
        edit(path / "data.json", **FACTS | {"mean": [0.3 + 1e-3 * i]})
    (runs[8][2] / "config.json").unlink()
    _, axes, settings = read(sweep)
    assert [axis.fields for axis in axes.axes] == [("model.depth",)]
    assert [len(setting.runs) for setting in settings] == [3, 3]


def test_runs_of_an_earlier_version_are_on_the_same_data(tmp_path):
    """Its data.json has neither the interpolation nor what was measured."""
    sweep, runs = two_depths(tmp_path)
    for path in [*runs[8], *runs[14]]:
        edit(path / "data.json", **FACTS)
    now = {"interpolation": "bilinear", "measured": {"mean": [0.3], "std": [0.2]}}
    for path in [runs[8][0], *runs[14]]:
        edit(path / "data.json", **now)
    _, axes, settings = read(sweep)
    assert [axis.fields for axis in axes.axes] == [("model.depth",)]
    assert [len(setting.runs) for setting in settings] == [3, 3]
    edit(runs[8][0] / "data.json", interpolation="bicubic")
    _, axes, _ = read(sweep)
    assert [axis.fields for axis in axes.axes] == [("model.depth",), ("data.name",)]


def test_other_training_splits_may_have_other_statistics(tmp_path):
    runs = [
        ({"data.train_split": split, "seed": seed}, (10.0 + seed + 2 * (split == "train"), 5.0))
        for split in ("train", "train[:50]")
        for seed in range(3)
    ]
    sweep = make_sweep(tmp_path / "s", runs)
    for path in sweep.runs.iterdir():
        half = "[" in path.name
        edit(
            path / "data.json",
            **FACTS | {"train_examples": 50 if half else 100, "mean": [0.5 * half]},
        )
    comparisons, confounded, settings = compare_all(read(sweep)[0])
    assert (len(comparisons), len(confounded), len(settings)) == (1, 0, 2)


def test_the_same_config_and_seed_on_other_data_is_no_repeat(tmp_path):
    parts = [
        make_sweep(tmp_path / name, [({"model.depth": 8, "seed": 0}, (9.0, 1.0))]) for name in "ab"
    ]
    assert len(read_study([str(part.path) for part in parts]).repeats) == 1
    for part, examples in zip(parts, (100, 90), strict=True):
        edit(next(part.runs.iterdir()) / "data.json", **FACTS | {"train_examples": examples})
    study = read_study([str(part.path) for part in parts])
    assert (len(study.runs), study.repeats) == (2, ())
