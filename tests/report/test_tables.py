"""Results, bold, literature, comparisons in words."""

import math

import numpy as np
import pytest
from fabricate import make_sweep, read
from scipy import stats

from resnet_jax.config import Config, flatten, load_config, open_config_file, override
from resnet_jax.report.comparisons import compare
from resnet_jax.report.reference import REFERENCES, find_references, recipe_differences
from resnet_jax.report.run import Curve, last_epoch
from resnet_jax.report.tables import comparisons_table, results_table, runs_table


def columns(table, *names):
    """The cells of some columns, a tuple per row."""
    places = [table.columns.index(name) for name in names]
    return [tuple(row[place] for place in places) for row in table.rows]


def test_means_and_deviations_by_hand(depth_study):
    _, axes, settings = read(depth_study)
    rows = columns(results_table(settings, axes), "depth", "shortcut", "test error (%)")
    assert [tuple(cell.text for cell in row) for row in rows] == [
        ("8", "plain", "10.00 ± 0.20"),
        ("8", "residual A", "9.00 ± 0.10"),
        ("14", "plain", "12.00 ± 0.40"),
        ("14", "residual A", "8.00 ± 0.30"),
    ]
    half = 4.30265 * 0.2 / math.sqrt(3)
    assert settings[0].summary("test").interval == pytest.approx((10 - half, 10 + half), abs=1e-4)


def test_the_best_is_bold_once_per_data_set(tmp_path):
    errors = {"digits": {8: 3.0, 14: 2.0}, "cifar10": {8: 9.0, 14: 9.004}}
    runs = [
        ({"data.name": data, "model.depth": depth}, (error, error))
        for data, by_depth in errors.items()
        for depth, error in by_depth.items()
    ]
    _, axes, settings = read(make_sweep(tmp_path / "s", runs))
    rows = columns(results_table(settings, axes), "data set", "depth", "test error (%)")
    bold = [(data.text, depth.text) for data, depth, error in rows if error.best]
    # 9.00 and 9.004 are printed alike.
    assert bold == [("digits", "14"), ("CIFAR-10", "8"), ("CIFAR-10", "14")]


def test_failures_are_counted_in_the_row(broken_study):
    _, axes, settings = read(broken_study)
    rows = columns(results_table(settings, axes), "learning rate", "test error (%)", "runs done")
    assert [tuple(cell.text for cell in row) for row in rows] == [
        ("0.01", "20.00", "1 of 3 (1 running, 1 pending)"),
        ("0.1", "10.20 ± 0.28", "2 of 3 (1 failed)"),
        ("1", "–", "0 of 3 (3 diverged)"),
    ]


def test_runs_table_shows_state_reason_and_difference(broken_study):
    study, _, _ = read(broken_study)
    rows = columns(runs_table(study), "state", "differs from the base config by", "reason")
    failed = [(change.text, why.text) for state, change, why in rows if state.text == "failed"]
    assert failed == [("seed: 0 → 2", "RuntimeError: out of <b>memory</b>")]


def test_training_error_is_the_mean_over_the_last_epoch_weighted_by_steps():
    # Ten steps an epoch; lines cover steps 1-4, 5-12, 13-18, 19-20. The last epoch is steps 11-20, and
    # most of the second line lies before it.
    curve = Curve(*map(np.array, ([4.0, 12, 18, 20], [0.4, 1.2, 1.8, 2.0], [90.0, 40, 20, 10])))
    assert last_epoch(curve) == pytest.approx((6 * 20 + 2 * 10) / 8)
    # Where lines are further apart than an epoch, the last one.
    sparse = Curve(*map(np.array, ([50.0, 67], [2.5, 3.35], [33.0, 9])))
    assert last_epoch(sparse) == 9
    assert last_epoch(Curve(*map(np.array, ([], [], [])))) is None


def cifar(**model):
    config = override(Config(), {"data.name": "cifar10"})
    return flatten(config.to_dict()) | {f"model.{name}": value for name, value in model.items()}


@pytest.mark.parametrize(
    ("model", "error"),
    [
        ({"depth": 20}, 8.75),
        ({"depth": 56, "shortcut": "A"}, 6.97),
        ({"depth": 110, "shortcut": "exclusive_gating"}, 8.70),
        ({"depth": 110, "shortcut": "shortcut_only_gating", "gate_bias": 0.0}, 12.86),
        ({"depth": 110, "shortcut": "constant_scaling"}, 12.35),
        ({"depth": 110, "shortcut": "none"}, None),
        ({"depth": 164, "block": "bottleneck", "activation_order": "full_preactivation"}, 5.46),
        ({"depth": 110, "survival_probability": 0.5}, 5.25),
    ],
)
def test_literature_of_a_setting(model, error):
    found = find_references(cifar(**model))
    assert found
    assert found[0].error == error


@pytest.mark.parametrize(
    "model", [{"depth": 20, "shortcut": "none"}, {"depth": 20, "norm": "group"}, {"depth": 26}]
)
def test_other_networks_have_no_literature(model):
    assert find_references(cifar(**model)) == []
    assert find_references(cifar(depth=20) | {"data.name": "digits"}) == []


@pytest.mark.parametrize(
    ("field", "value", "found"),
    [
        ("data.image_size", 32, True),
        ("data.image_size", 16, False),
        ("data.eval_split", "test", True),
        ("data.eval_split", "test[:500]", False),
        ("data.eval_split", "train[45000:]", False),
    ],
)
def test_literature_is_for_the_same_images_and_the_whole_test_split(field, value, found):
    """A net of 20 layers at 16×16, tested on 500 images, has no 8.75 beside its error."""
    assert bool(find_references(cifar(depth=20) | {field: value})) == found


def test_the_small_data_set_study_has_no_literature():
    file = open_config_file("configs/sweeps/dataset.py")
    for overrides in file.module.sweep():
        assert find_references(flatten(file.config().to_dict()) | overrides) == []


@pytest.mark.parametrize(
    ("path", "error"), [("configs/cifar10.py", 8.75), ("configs/wide_resnet.py", 4.00)]
)
def test_the_papers_configs_have_the_papers_recipe(path, error):
    config = flatten(load_config(path).to_dict())
    reference = find_references(config)[0]
    assert reference.error == error
    always = list(reference.always)
    assert recipe_differences(config, reference) == always
    shorter = config | {"train.duration": "5 epochs"}
    line, *others = recipe_differences(shorter, reference)
    assert line.startswith("duration 5 epochs instead of ")
    assert others == always


@pytest.mark.parametrize("name", ["shortcut_he2016", "activation_he2016", "depth"])
def test_the_papers_studies_have_the_papers_recipe(name):
    """Depth 110 with its warm-up too."""
    file = open_config_file(f"configs/sweeps/{name}.py:full")
    runs = [flatten(file.config().to_dict()) | run for run in file.module.sweep("full")]
    pairs = [(run, find_references(run)[:1]) for run in runs]
    assert sum(bool(found) for _, found in pairs) >= 10
    for run, found in pairs:
        for reference in found:
            assert recipe_differences(run, reference) == list(reference.always)


@pytest.mark.parametrize(
    ("field", "value", "line"),
    [
        ("train.batch_size", 64, "batch size 64 instead of 128"),
        ("train.clip_gradient_norm", 1.0, "largest gradient norm 1 instead of any"),
        ("train.ema_decay", 0.999, "decay of averaged weights 0.999 instead of none"),
        ("train.label_smoothing", 0.1, "label smoothing 0.1 instead of 0"),
        ("optimizer.nesterov", True, "Nesterov momentum yes instead of no"),
        ("data.train_split", "train[:2000]", "training split train[:2000] instead of train"),
        ("schedule.warmup", 400, "warm-up 400 steps instead of 0 steps"),
        (
            "schedule.boundaries",
            ("30 epochs",),
            "drops of the rate at 30 epochs instead of 32000 steps, 48000 steps",
        ),
        ("schedule.name", "cosine", "schedule cosine instead of step"),
        ("model.dtype", "bfloat16", "compute type bfloat16 instead of float32"),
    ],
)
def test_what_differs_from_the_paper_is_told(field, value, line):
    config = flatten(load_config("configs/cifar10.py").to_dict())
    reference = find_references(config)[0]
    assert recipe_differences(config | {field: value}, reference) == [line, *reference.always]


def test_equal_durations_in_other_words_do_not_differ():
    config = flatten(load_config("configs/cifar10.py").to_dict())
    reference = find_references(config)[0]
    numbers = {"train.duration": 64000, "schedule.boundaries": (32000, 48000)}
    assert recipe_differences(config | numbers, reference) == list(reference.always)


def test_rows_that_differ_in_an_axis_share_a_note(tmp_path):
    runs = [({"optimizer.learning_rate": rate}, (9.0, 5.0)) for rate in (0.05, 0.2)]
    base = {"data.name": "cifar10", "model.depth": 20}
    _, axes, settings = read(make_sweep(tmp_path / "s", runs, base))
    table = results_table(settings, axes)
    assert [cell.text for (cell,) in columns(table, "literature (%)")] == ["8.75", "8.75"]
    (note,) = table.notes
    assert "learning rate as in the row instead of 0.1" in note
    assert "images normalised by channel" in note


def test_every_number_of_the_literature_has_a_setting_of_its_own():
    """A reference whose fields no config can have would never be shown."""
    for reference in REFERENCES:
        model = {k: v[0] if isinstance(v, tuple) else v for k, v in reference.model.items()}
        assert reference in find_references(cifar(**model) | {"data.name": reference.data})


def test_comparisons_are_within_the_same_values_of_the_other_axes(depth_study):
    study, axes, settings = read(depth_study)
    found = [c for c in compare(settings, axes, study.base) if c.split == "test"]
    assert len(found) == 4
    for c in found:
        (differs,) = [a for a in axes.axes if c.baseline.values[a] != c.other.values[a]]
        assert differs == c.axis
    sentences = [c.sentence() for c in found]
    # Differences of depth 14: 4.0, 4.1, 3.9; t interval 4 ± 4.303 · 0.1/√3.
    assert (
        "depth 14: residual A beats plain by 4.00 ± 0.10 points of test error "
        "(n = 3, 95% interval 3.75 to 4.25); distinguishable."
    ) in sentences
    assert any(
        s.startswith("plain: depth 8 beats depth 14 by 2.00 ± 0.20 points") for s in sentences
    )


def test_holm_can_take_a_verdict_back(tmp_path):
    """Alone the difference has p = 0.02; as one of four comparisons it does not count."""
    nothing = [1.0, -1.0, 0.5, -0.5]
    gains = {
        "A": [0.0] * 4,
        "B": [0.4, 1.0, 0.7, 1.3],
        "C": nothing,
        "D": nothing,
        "highway": nothing,
    }
    runs = [
        ({"model.shortcut": shortcut, "seed": seed}, (10 + seed - gain, 5.0))
        for shortcut, by_seed in gains.items()
        for seed, gain in enumerate(by_seed)
    ]
    study, axes, settings = read(make_sweep(tmp_path / "s", runs, {"model.shortcut": "A"}))
    found = {c.names[1]: c for c in compare(settings, axes, study.base)}
    b = found["residual B"]
    assert b.paired.p_value == pytest.approx(stats.ttest_1samp(gains["B"], 0).pvalue)
    assert 0.01 < b.paired.p_value < 0.05
    assert b.adjusted == pytest.approx(4 * b.paired.p_value)
    assert b.verdict == "the interval excludes 0, but not after the correction"
    assert found["residual C"].verdict == "not distinguishable"


def test_a_setting_that_only_diverged_is_said_to(broken_study):
    study, axes, settings = read(broken_study)
    sentences = [c.sentence() for c in compare(settings, axes, study.base)]
    assert sentences == [
        "learning rate 0.1 has 10.00 points less test error than learning rate 0.01 (n = 1 of 3); "
        "no interval: one pair of seeds, or equal differences.",
        "learning rate 1 against learning rate 0.1: learning rate 1 has no run that is done "
        "(3 diverged).",
    ]


def test_differences_in_the_table_are_negative_where_the_compared_one_is_better(depth_study):
    study, axes, settings = read(depth_study)
    table = comparisons_table(compare(settings, axes, study.base))
    rows = columns(table, "at", "compared", "against", "difference (points)", "95% interval (t)")
    shown = [tuple(cell.text for cell in row) for row in rows]
    assert ("depth 14", "residual A", "plain", "−4.00 ± 0.10", "−4.25 to −3.75") in shown


@pytest.mark.parametrize("differences", [(0.0, 0.0, 0.0), (0.3, -0.3, 0.0), (0.301, -0.3, 0.0)])
def test_a_difference_of_nothing_is_no_less_of_anything(tmp_path, differences):
    runs = [
        ({"model.depth": depth, "seed": seed}, (10 + (depth == 14) * difference, 5.0))
        for depth in (8, 14)
        for seed, difference in enumerate(differences)
    ]
    study, axes, settings = read(make_sweep(tmp_path / "s", runs))
    found = [c for c in compare(settings, axes, study.base) if c.split == "test"]
    (sentence,) = [c.sentence() for c in found]
    start = "depth 14 and depth 8 have the same mean test error to two decimals (difference ± 0."
    assert sentence.startswith(start)
    assert " less " not in sentence
    (cell,) = columns(comparisons_table(found), "difference (points)")[0]
    assert cell.text.startswith("0.00 ± 0.")


def test_each_error_is_followed_by_its_interval(depth_study):
    _, axes, settings = read(depth_study)
    table = results_table(settings, axes)
    assert table.columns[2:7] == (
        "test error (%)",
        "95% interval (test)",
        "training error (%)",
        "95% interval (training)",
        "runs done",
    )
    # t with two degrees of freedom is 4.30265: 8 ± 4.30265 · 0.3/√3 and 2 ± 4.30265 · 0.1/√3.
    last = columns(table, *table.columns[2:6])[-1]
    assert [cell.text for cell in last] == [
        "8.00 ± 0.30",
        "7.25 to 8.75",
        "2.00 ± 0.10",
        "1.75 to 2.25",
    ]


def test_columns_in_which_nothing_stands_are_left_out(sweep_of):
    """One seed has no interval, and digits have no literature."""
    _, axes, settings = read(sweep_of({"model.depth": (8, 14)}))
    columns_shown = results_table(settings, axes).columns
    assert not any("interval" in name or "literature" in name for name in columns_shown)


def test_comparisons_that_wait_for_runs_are_no_findings(tmp_path):
    runs = [({"model.depth": d, "seed": s}, (10.0 + s, 5.0)) for d in (8, 14) for s in (0, 1)]
    runs += [({"model.depth": 20, "seed": s}, "pending") for s in (0, 1)]
    runs += [({"model.depth": 26, "seed": s}, ("diverged", "not finite")) for s in (0, 1)]
    study, axes, settings = read(make_sweep(tmp_path / "s", runs))
    found = [c for c in compare(settings, axes, study.base) if c.split == "test"]
    base, others = settings[0], [c.other.runs[0].config["model.depth"] for c in found]
    assert all(c.baseline is base for c in found)
    assert dict(zip(others, [c.waits for c in found], strict=True)) == {
        14: False,
        20: True,
        26: False,
    }


def test_an_interval_of_an_error_lies_between_0_and_100_percent(tmp_path):
    runs = [({"model.depth": 8, "seed": s}, (error, 5.0)) for s, error in enumerate((1.0, 9.0))]
    _, _, (setting,) = read(make_sweep(tmp_path / "s", runs))
    # t with one degree of freedom is 12.7062: 5 ± 50.8.
    assert setting.summary("test").interval == pytest.approx((0, 5 + 12.7062 * 4), abs=1e-3)
