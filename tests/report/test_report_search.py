"""The plots of a search: three figures however many the trials, with every trial in them."""

import matplotlib
import numpy as np
import pytest
from fabricate import make_sweep, read

from resnet_jax.plotting.style import RC
from resnet_jax.report.figures import figures_of
from resnet_jax.report.write import write_report

RATES = tuple(0.0003 * 2.1**i for i in range(12))
DECAYS = tuple(2e-4 + 1e-5 * ((7 * i) % 12) for i in range(12))
ORDERS = ("original", "full_preactivation")
# Trial 5 is the best of those that are done; 9 was stopped, 11 diverged, 10 has not begun.
ERRORS = (30.0, 20.0, 25.0, 12.0, 14.0, 9.0, 11.0, 40.0, 16.0)


@pytest.fixture
def trials(tmp_path):
    """A sweep directory of a search with twelve trials."""
    outcomes = [(error, 5.0) for error in ERRORS]
    outcomes += [("stopped", None), "pending", ("diverged", "not finite at step 3")]
    runs = [
        (
            {
                "optimizer.learning_rate": RATES[i],
                "optimizer.weight_decay": DECAYS[i],
                "model.activation_order": ORDERS[i % 2],
            },
            outcome,
        )
        for i, outcome in enumerate(outcomes)
    ]
    return make_sweep(tmp_path / "search", runs, search={"engine": "optuna"})


@pytest.fixture
def figures(trials):
    """Name → figure."""
    study, axes, settings = read(trials)
    with matplotlib.rc_context(RC):
        yield {figure.name: figure for figure in figures_of(study, settings, axes)}


def lines(panel, marker):
    return [line for line in panel.lines if line.get_marker() == marker]


def points(panel):
    """Sorted x and y of the trials that are done; the best have two markers and a ring."""
    done = [line for line in panel.lines if line.get_marker() in "osD"]
    pairs = {(line.get_xdata()[0], round(line.get_ydata()[0], 9)) for line in done}
    return np.array(sorted(pairs))


def test_a_search_has_three_figures(figures):
    assert list(figures) == ["search", "lowest_so_far", "curves"]


def test_each_field_has_a_panel_with_every_finished_trial(figures):
    rates, decays, orders = figures["search"].canvas.axes
    assert [p.get_xlabel() for p in (rates, decays, orders)] == [
        "learning rate",
        "weight decay",
        "activation order",
    ]
    for panel, values in ((rates, RATES), (decays, DECAYS), (orders, (0, 1) * 6)):
        expected = sorted(zip(values, ERRORS, strict=False))
        np.testing.assert_allclose(points(panel), expected)
    # Logarithmic only where values span more than a decade.
    assert [p.get_xscale() for p in (rates, decays, orders)] == ["log", "linear", "linear"]
    names = [label.get_text() for label in orders.get_xticklabels()]
    assert names == ["original", "full pre-activation"]


def test_the_best_is_ringed_and_the_stopped_and_diverged_are_signs(figures, trials):
    panel = figures["search"].canvas.axes[0]
    (ring,) = [line for line in panel.lines if line.get_markersize() == 13]
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == pytest.approx((RATES[5], 9.0))
    study, _, _ = read(trials)
    (cross,) = lines(panel, "x")
    last = study.runs[9].test.error[-1]
    assert (cross.get_xdata()[0], cross.get_ydata()[0]) == pytest.approx((RATES[9], last))
    (triangle,) = lines(panel, "^")
    assert triangle.get_xdata()[0] == pytest.approx(RATES[11])
    assert "stopped early" in figures["search"].caption
    assert "diverged or failed" in figures["search"].caption


def test_the_lowest_so_far_by_hand(figures):
    (panel,) = figures["lowest_so_far"].canvas.axes
    (step,) = [line for line in panel.lines if line.get_label() == "lowest so far"]
    # The trial that has not begun is none; the two after the ninth have no final error.
    assert list(step.get_xdata()) == list(range(1, 12))
    assert list(step.get_ydata()) == pytest.approx([30, 20, 20, 12, 12] + [9] * 6)


def test_three_curves_have_a_colour_and_the_others_are_grey(figures):
    (panel,) = figures["curves"].canvas.axes
    shown = [line for line in panel.lines if not line.get_label().startswith("_")]
    assert [line.get_label() for line in shown] == ["best: 9.00%", "no. 2: 11.00%", "no. 3: 12.00%"]
    grey = [line for line in panel.lines if line not in shown and len(line.get_xdata())]
    assert len(grey) == 11
    assert len({line.get_color() for line in grey}) == 1
    legend = [text.get_text() for text in figures["curves"].canvas.legends[0].get_texts()]
    assert len(legend) == 3


def test_errors_of_more_than_a_decade_are_logarithmic(tmp_path):
    runs = [({"optimizer.momentum": m}, (e, 5.0)) for m, e in ((0.5, 80.0), (0.8, 9.0), (0.9, 2.0))]
    study, axes, settings = read(make_sweep(tmp_path / "s", runs, search={"engine": "optuna"}))
    with matplotlib.rc_context(RC):
        for figure in figures_of(study, settings, axes):
            panel = figure.canvas.axes[0]
            assert panel.get_yscale() == "log"
            figure.canvas.draw_without_rendering()
            ticks = [label.get_text() for label in panel.get_yticklabels()]
            assert {"10", "30"} <= set(ticks)
            assert not any("$" in tick for tick in ticks)


@pytest.mark.parametrize("outcome", ["pending", ("running", None), ("diverged", "not finite")])
def test_a_search_without_a_finished_trial(tmp_path, outcome):
    runs = [({"optimizer.momentum": m}, outcome) for m in (0.5, 0.8)]
    study, axes, settings = read(make_sweep(tmp_path / "s", runs, search={"engine": "optuna"}))
    with matplotlib.rc_context(RC):
        names = [figure.name for figure in figures_of(study, settings, axes)]
    assert names == ([] if outcome == "pending" else ["curves"])


def test_figures_of_a_search_do_not_grow_with_it(tmp_path):
    rng = np.random.default_rng(0)
    runs = [
        ({"optimizer.learning_rate": float(r), "optimizer.momentum": float(m)}, (10 + 80 * m, 5.0))
        for r, m in zip(10 ** rng.uniform(-4, 0, 50), rng.uniform(0, 0.9, 50), strict=True)
    ]
    study, axes, settings = read(make_sweep(tmp_path / "s", runs, search={"engine": "optuna"}))
    with matplotlib.rc_context(RC):
        figures = figures_of(study, settings, axes)
    assert len(figures) == 3
    assert len(points(figures[0].canvas.axes[0])) == 50


def test_a_search_over_two_data_sets_has_figures_of_each(tmp_path):
    errors = {"digits": (9.0, 3.0, 5.0), "cifar10": (70.0, 60.0, 80.0)}
    runs = [
        ({"optimizer.momentum": 0.5 + 0.1 * i, "data.name": data}, (error, 5.0))
        for i in range(3)
        for data, error in ((data, errors[data][i]) for data in errors)
    ]
    study, axes, settings = read(make_sweep(tmp_path / "s", runs, search={"engine": "optuna"}))
    with matplotlib.rc_context(RC):
        figures = {figure.name: figure for figure in figures_of(study, settings, axes)}
    assert len(figures) == 6
    for data, name in (("digits", "lowest_so_far"), ("cifar10", "lowest_so_far_2")):
        (panel,) = figures[name].canvas.axes
        (step,) = [line for line in panel.lines if line.get_label() == "lowest so far"]
        assert list(step.get_ydata()) == pytest.approx(np.minimum.accumulate(errors[data]))
    assert figures["lowest_so_far"].caption.startswith("digits: ")
    assert "shows no effect of one of them" in figures["search"].caption


def test_a_search_names_no_cause(trials):
    page, *files = write_report([str(trials.path)])
    for text in (path.read_text() for path in (page, *files) if path.suffix in (".html", ".md")):
        assert "a low error has no single field as its cause" in text
        assert not any(word in text for word in (" beats ", "distinguishable", "all else equal"))
