"""What is drawn: which plots a study gets, and that lines and cells have the right numbers."""

import itertools

import matplotlib
import numpy as np
import pytest
from fabricate import make_sweep, read
from matplotlib.container import ErrorbarContainer

from resnet_jax.plotting.style import RC, TITLE_WIDTH, canvas_of, in_lines, shared_legend
from resnet_jax.report.curves import mean_curve
from resnet_jax.report.figures import figures_of


@pytest.fixture(autouse=True)
def style():
    with matplotlib.rc_context(RC):
        yield


def draw(directory):
    """Name → figure."""
    study, axes, settings = read(directory)
    figures = figures_of(study, settings, axes)
    assert len({figure.name for figure in figures}) == len(figures)
    return {figure.name: figure for figure in figures}


def texts(canvas):
    return [text.get_text() for text in canvas.findobj(matplotlib.text.Text)]


def test_mean_curve_by_hand(depth_study):
    _, _, settings = read(depth_study)
    curve = mean_curve(settings[0], "test", "step")
    assert (curve.n, curve.finished) == (3, True)
    assert list(curve.x) == list(range(20, 201, 20))
    errors = np.stack([run.test.error for run in settings[0].runs])
    np.testing.assert_allclose(curve.mean, errors.sum(0) / 3)
    np.testing.assert_allclose(curve.std, np.sqrt(((errors - curve.mean) ** 2).sum(0) / 2))


def test_mean_curve_of_unfinished_runs_has_the_steps_that_all_have(broken_study):
    _, _, settings = read(broken_study)
    diverged = mean_curve(settings[2], "train", "step")
    assert (diverged.n, diverged.finished) == (3, False)
    assert diverged.x[-1] == 100


def test_depth_study_is_drawn_as_in_he_2015(depth_study):
    """A panel per shortcut; per depth a dashed line for training and a solid one for the test."""
    canvas = draw(depth_study)["curves"].canvas
    panels = [panel for panel in canvas.axes if panel.get_visible()]
    assert [panel.get_title() for panel in panels] == ["plain", "residual A"]
    lines = [line for line in panels[0].lines if len(line.get_xdata())]
    assert [line.is_dashed() for line in lines] == [True, False, True, False]
    ends = [line.get_ydata()[-1] for line in lines]
    assert ends == pytest.approx([5.0, 10.0, 8.0, 12.0])
    assert panels[0].get_ylim() == panels[1].get_ylim()
    legend = [text.get_text() for text in canvas.legends[0].get_texts()]
    assert legend == ["depth 8", "depth 14", "test", "train"]


def test_training_error_against_depth_has_a_line_per_shortcut_with_intervals(depth_study):
    panel = draw(depth_study)["error_by_depth"].canvas.axes[0]
    assert panel.get_title() == "training error"
    bars = [c for c in panel.containers if isinstance(c, ErrorbarContainer)]
    assert [bar.get_label() for bar in bars] == ["plain", "residual A"]
    assert list(bars[0][0].get_ydata()) == pytest.approx([5.0, 8.0])
    (segments,) = bars[0][2]
    low, high = segments.get_segments()[0][:, 1]
    assert (low, high) == pytest.approx((5 - 0.4968, 5 + 0.4968), abs=1e-3)


def test_each_data_set_has_panels_of_its_own(sweep_of):
    fields = {"data.name": ("digits", "cifar10"), "model.depth": (8, 14)}
    fields["model.shortcut"] = ("none", "A")
    figures = draw(sweep_of(fields, seeds=2))
    titles = [panel.get_title() for panel in figures["curves"].canvas.axes]
    assert titles == [f"{d} · {s}" for d in ("digits", "CIFAR-10") for s in ("plain", "residual A")]


def drawn_heights(panel):
    """All numbers of a panel's points, bars and bands along its axis of errors."""
    for line in panel.lines:
        if line.get_label() not in ("test", "train") and len(line.get_xdata()) > 0:
            yield from np.asarray(line.get_ydata(), float)
    for collection in panel.collections:
        for path in collection.get_paths():
            yield from path.vertices[:, 1]


@pytest.mark.parametrize("coupled", [False, True])
def test_no_panel_joins_data_sets(tmp_path, coupled):
    """Errors of the one lie from 2 to 8%, of the other from 70 to 76%; nothing is drawn in between."""

    def error(o):
        final = (2.0 if o["data.name"] == "digits" else 70.0) + o["model.depth"] / 10
        return final, final

    rows = [
        {"data.name": data, "model.depth": depth, "model.shortcut": shortcut, "seed": seed}
        for data, depth, shortcut in itertools.product(
            ("digits", "fashion_mnist"), (8, 14, 20), ("none", "A", "B")
        )
        for seed in range(2)
    ]
    if coupled:
        rows = [r for r in rows if (r["data.name"] == "digits") == (r["model.depth"] == 8)]
    sweep = make_sweep(tmp_path / "s", [(row, error(row)) for row in rows])
    figures = draw(sweep)
    assert {"curves", "error_by_depth", "error_by_shortcut"} & figures.keys()
    for name, figure in figures.items():
        for panel in figure.canvas.axes:
            if name.startswith("curves"):
                # Curves fall from chance: their ends say which data set they are of.
                ends = [line.get_ydata()[-1] for line in panel.lines if len(line.get_xdata()) > 1]
            elif name.startswith("heat_map"):
                ends = [float(t.get_text()) for t in panel.texts]
            elif name == "error_by_shortcut":
                ends = [x for line in panel.lines for x in np.asarray(line.get_xdata(), float)]
            else:
                ends = list(drawn_heights(panel))
            kinds = {end > 40 for end in ends if end not in (0, 1)}
            assert len(kinds) < 2, (name, panel.get_title())


def test_data_sets_alone_are_no_axis(sweep_of):
    figures = draw(sweep_of({"data.name": ("digits", "cifar10")}, seeds=2))
    assert list(figures) == ["curves"]
    assert [p.get_title() for p in figures["curves"].canvas.axes] == ["digits", "CIFAR-10"]


def test_a_line_joins_what_differs_in_its_axis_alone(tmp_path):
    """Depth 110 has a warm-up, as in He et al. 2015: its point stands alone."""
    runs = [
        (
            {"model.depth": depth, "seed": seed, "schedule.warmup": 40 if depth == 110 else 0},
            (10.0 + seed, 5.0),
        )
        for depth in (20, 32, 110)
        for seed in range(2)
    ]
    figure = draw(make_sweep(tmp_path / "s", runs))["error_by_depth"]
    for panel in figure.canvas.axes:
        bars = [c for c in panel.containers if isinstance(c, ErrorbarContainer)]
        assert [list(bar[0].get_xdata()) for bar in bars] == [[20, 32], [110]]
    assert "Points that are not joined differ in more than depth." in figure.caption


def test_learning_rate_is_logarithmic_and_its_best_is_ringed(sweep_of):
    best = {0.01: 12.0, 0.1: 8.0, 1.0: 20.0}
    fields = {"optimizer.learning_rate": tuple(best)}
    sweep = sweep_of(fields, lambda o: (best[o["optimizer.learning_rate"]], 5.0), seeds=2)
    panel = draw(sweep)["error_by_learning_rate"].canvas.axes[1]
    assert panel.get_xscale() == "log"
    rings = [line for line in panel.lines if line.get_markersize() == 13]
    assert len(rings) == 1
    assert (rings[0].get_xdata()[0], rings[0].get_ydata()[0]) == pytest.approx((0.1, 8.0))


def test_failures_are_marked(broken_study):
    figure = draw(broken_study)["error_by_learning_rate"]
    assert "diverged or failed" in figure.caption
    crosses = [line for line in figure.canvas.axes[0].lines if line.get_marker() == "x"]
    assert [list(line.get_xdata()) for line in crosses] == [[1.0]]


def test_heat_map_has_a_number_in_every_cell(sweep_of):
    fields = {"optimizer.weight_decay": (0.0, 1e-4, 1e-3), "model.shortcut": ("none", "A", "B")}

    def error(overrides):
        if overrides["model.shortcut"] == "B" and overrides["optimizer.weight_decay"] == 0:
            return ("diverged", "not finite")
        return (10 + 1000 * overrides["optimizer.weight_decay"], 5.0)

    name = "heat_map_weight_decay_shortcut"
    canvas = draw(sweep_of(fields, error))[name].canvas
    cells = [text for text in texts(canvas) if text in ("10.00", "10.10", "11.00", "×")]
    assert sorted(cells) == sorted(["10.00"] * 2 + ["×"] + ["10.10"] * 3 + ["11.00"] * 3)


def test_categories_show_the_mean_and_every_seed(sweep_of):
    errors = {"none": 12.0, "A": 9.0, "B": 8.0}

    def error(overrides):
        return (errors[overrides["model.shortcut"]] + 0.1 * overrides["seed"], 5.0)

    panel = draw(sweep_of({"model.shortcut": tuple(errors)}, error, seeds=3))["error_by_shortcut"]
    panel = panel.canvas.axes[0]
    means = [c[0].get_xdata()[0] for c in panel.containers if isinstance(c, ErrorbarContainer)]
    assert means == pytest.approx([12.1, 9.1, 8.1])
    assert [label.get_text() for label in panel.get_yticklabels()] == [
        "plain",
        "residual A",
        "residual B",
    ]
    dots = [line for line in panel.lines if line.get_marker() == "."]
    assert [len(line.get_xdata()) for line in dots] == [3, 3, 3]


def test_text_of_a_config_is_no_formula(tmp_path):
    """Matplotlib would read dollars as TeX and fail on half a formula."""
    runs = [({"data.train_split": split, "seed": 0}, (10, 5)) for split in ("$\\frac{", "train")]
    for figure in draw(make_sweep(tmp_path / "s", runs)).values():
        figure.canvas.draw_without_rendering()


def test_one_setting_has_curves_alone(sweep_of):
    assert list(draw(sweep_of({"model.depth": (8,)}, seeds=2))) == ["curves"]


def test_colours_of_an_ordered_axis_grow_darker_in_grey(sweep_of):
    canvas = draw(sweep_of({"model.depth": (8, 14, 20, 26, 32)}))["curves"].canvas
    solid = [line for line in canvas.axes[0].lines if line.get_marker() not in ("", "None")]
    rgb = np.array([matplotlib.colors.to_rgb(line.get_color()) for line in solid])
    luminance = rgb @ [0.2126, 0.7152, 0.0722]
    assert len(solid) == 5
    assert (np.diff(luminance) < -0.04).all()
    assert len({line.get_marker() for line in solid}) == 5


def overlapping_labels(panel):
    """Pairs of neighbouring tick labels on the horizontal axis that touch, once the figure is drawn."""
    panel.figure.draw_without_rendering()
    labels = [label for label in panel.get_xticklabels() if label.get_text()]
    low, high = panel.get_xlim()
    seen = [label for label in labels if low <= label.get_position()[0] <= high]
    boxes = sorted((label.get_window_extent() for label in seen), key=lambda box: box.x0)
    assert len(boxes) >= 2
    return [(a, b) for a, b in itertools.pairwise(boxes) if a.x1 > b.x0]


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("model.depth", (8, 14, 20, 26, 32, 38, 44, 50)),
        ("model.depth", (20, 32, 44, 56, 110, 1202)),
        ("optimizer.momentum", tuple(0.5 + 0.0123 * i for i in range(30))),
        ("optimizer.momentum", (0.871, 0.872, 0.873, 0.99)),
        ("optimizer.learning_rate", (0.0001232, 0.0003385, 0.0217, 0.02865, 2.063, 2.407)),
        ("optimizer.learning_rate", tuple(0.01 * 1.3**i for i in range(12))),
        ("optimizer.learning_rate", tuple(1e-5 * 1.7**i for i in range(25))),
        ("optimizer.learning_rate", (0.05, 0.06, 0.07, 0.08, 0.081, 0.082, 0.083, 0.084, 0.085)),
    ],
)
def test_ticks_of_numbers_never_touch(sweep_of, field, values):
    name = f"error_by_{field.rpartition('.')[2]}"
    for panel in draw(sweep_of({field: values}))[name].canvas.axes:
        assert overlapping_labels(panel) == []


def test_few_numbers_have_a_tick_each(sweep_of):
    panel = draw(sweep_of({"model.depth": (8, 14, 20)}))["error_by_depth"].canvas.axes[0]
    assert [label.get_text() for label in panel.get_xticklabels()] == ["8", "14", "20"]


def test_a_legend_of_long_names_is_not_cut_off():
    canvas, panels = canvas_of(1, 1)
    panels[0, 0].plot([0, 1], label="depth=20,shortcut=exclusive_gating,learning_rate=0.1,seed=4")
    shared_legend(canvas, panels.ravel().tolist())
    canvas.draw_without_rendering()
    (legend,) = canvas.legends
    drawn = legend.get_window_extent()
    assert drawn.x0 >= 0
    assert drawn.x1 <= canvas.bbox.width


def test_long_names_of_runs_are_broken_where_they_can_be():
    assert in_lines("depth=20,shortcut=A,seed=1") == "depth=20,shortcut=A,seed=1"
    name = "runs/depth=20,shortcut=A,optimizer.learning_rate=0.1,seed=1"
    lines = in_lines(name).splitlines()
    assert "".join(lines) == name
    assert lines[0] == "runs/depth=20,shortcut=A,"
    assert all(len(line) <= TITLE_WIDTH for line in lines)
