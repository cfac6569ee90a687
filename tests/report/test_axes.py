"""Which fields become axes."""

from fabricate import make_sweep, read

from resnet_jax.report.axes import find_axes
from resnet_jax.report.study import read_study


def names(axes):
    return [axis.fields for axis in axes.axes]


def test_seed_and_constant_fields_are_no_axes(sweep_of):
    fields = {"model.depth": (8, 14), "model.shortcut": ("none", "A"), "model.width_factor": (2,)}
    _, axes, settings = read(sweep_of(fields, seeds=3))
    assert names(axes) == [("model.depth",), ("model.shortcut",)]
    assert [len(setting.runs) for setting in settings] == [3] * 4


def test_a_field_that_goes_with_another_is_no_axis(tmp_path):
    """Also where it comes first and the other one follows from it."""
    durations = {"digits": "20 epochs", "cifar10": "5 epochs"}
    runs = [
        ({"train.duration": durations[data], "data.name": data, "model.depth": depth}, (10, 5))
        for data in durations
        for depth in (8, 14)
    ]
    _, axes, _ = read(make_sweep(tmp_path / "s", runs))
    assert names(axes) == [("data.name",), ("model.depth",)]
    assert axes.tied == (("train.duration", "data.name", durations),)


def test_a_field_that_is_a_function_of_two_others_together_stays(tmp_path):
    runs = [
        (
            {
                "model.depth": depth,
                "model.norm": norm,
                "train.batch_size": 64 + (depth > 8) * (norm == "group"),
            },
            (10, 5),
        )
        for depth in (8, 14)
        for norm in ("batch", "group")
    ]
    _, axes, settings = read(make_sweep(tmp_path / "s", runs))
    assert ("train.batch_size",) not in [(name,) for name, _, _ in axes.tied]
    assert len(settings) == 4


def test_fields_that_are_not_crossed_become_one_axis(tmp_path):
    rows = [
        {"model.shortcut": "A"},
        {"model.shortcut": "exclusive_gating", "model.gate_bias": -6.0},
        {"model.shortcut": "exclusive_gating", "model.gate_bias": 0.0},
        {"model.shortcut": "shortcut_only_gating", "model.gate_bias": 0.0},
    ]
    runs = [({**row, "model.depth": depth}, (10, 5)) for row in rows for depth in (8, 14)]
    _, axes, settings = read(make_sweep(tmp_path / "s", runs))
    assert names(axes) == [("model.shortcut", "model.gate_bias"), ("model.depth",)]
    labels = [axes.axes[0].value_label(value) for value in axes.axes[0].values]
    assert labels == [
        "residual A",
        "exclusive gating, gate bias −6",
        "exclusive gating, gate bias 0",
        "shortcut-only gating, gate bias 0",
    ]
    assert len(settings) == 8


def test_depth_stays_an_axis_where_some_depths_were_not_run(tmp_path):
    pairs = [(8, "none"), (8, "A"), (14, "none"), (14, "A"), (110, "A")]
    runs = [({"model.depth": d, "model.shortcut": s}, (10, 5)) for d, s in pairs]
    _, axes, settings = read(make_sweep(tmp_path / "s", runs))
    assert names(axes) == [("model.depth",), ("model.shortcut",)]
    assert len(settings) == 5


def test_values_of_a_search_do_not_determine_each_other(tmp_path):
    """Every drawn value is unique, so each of two fields is a function of the other by chance."""
    runs = [
        ({"optimizer.learning_rate": rate, "optimizer.weight_decay": decay}, (10, 5))
        for rate, decay in ((0.1, 1e-4), (0.3, 1e-3), (0.05, 1e-5))
    ]
    drawn = make_sweep(tmp_path / "drawn", runs, search={"trials": 3})
    stated = make_sweep(tmp_path / "stated", runs)
    both = [("optimizer.learning_rate",), ("optimizer.weight_decay",)]
    assert names(read(drawn)[1]) == both
    assert names(read(stated)[1]) == both[:1]


def test_numbers_ascend_and_choices_keep_their_order(sweep_of):
    fields = {"model.depth": (56, 20), "model.shortcut": ("none", "B", "A")}
    _, axes, _ = read(sweep_of(fields))
    assert [axis.values for axis in axes.axes] == [((20,), (56,)), (("none",), ("B",), ("A",))]


def test_without_sweep_json_the_configs_tell_the_axes(depth_study):
    study = read_study([str(depth_study.runs)])
    assert len(study.runs) == 12
    assert names(find_axes(study)) == [("model.depth",), ("model.shortcut",)]


def test_where_a_run_ran_is_no_axis(tmp_path):
    runs = [({"model.depth": d, "parallel.num_devices": d}, (10, 5)) for d in (8, 14)]
    _, axes, _ = read(make_sweep(tmp_path / "s", runs))
    assert names(axes) == [("model.depth",)]
