"""Averages of predictions and their calibration, against hand-worked numbers and `evaluate`."""

import json
import shutil

import numpy as np
import pytest
from scipy.special import log_softmax

from resnet_jax.analysis import calibration
from resnet_jax.analysis.batches import summed_correct, summed_loss
from resnet_jax.analysis.ensembles import disagreement, growth
from resnet_jax.analysis.request import finite_logits
from resnet_jax.cli import main
from resnet_jax.errors import NotFiniteError

RNG = np.random.default_rng(0)


def test_calibration_error_by_hand():
    # Bins of 0.2. (0.4, 0.6]: confidence 0.6, right. (0.6, 0.8]: 0.7 and 0.8, one right of the two.
    # (0.8, 1]: 0.9 and 1.0, both wrong.
    first = np.array([0.6, 0.7, 0.8, 0.9, 1.0])
    probabilities = np.stack([first, 1 - first], 1)
    labels = np.array([0, 0, 1, 1, 1])
    expected = (1 * abs(1 - 0.6) + 2 * abs(0.5 - 0.75) + 2 * abs(0 - 0.95)) / 5
    assert calibration.calibration_error(probabilities, labels, bins=5) == pytest.approx(expected)
    count, confidence, accuracy = calibration.reliability(probabilities, labels, bins=5)
    assert count.tolist() == [0, 0, 1, 2, 2]
    np.testing.assert_allclose(confidence[2:], [0.6, 0.75, 0.95])
    np.testing.assert_allclose(accuracy[2:], [1, 0.5, 0])
    assert np.isnan(accuracy[:2]).all()


def test_labels_drawn_from_the_probabilities_are_calibrated():
    probabilities = RNG.dirichlet(np.ones(4), 50_000)
    draws = RNG.random((50_000, 1))
    labels = (probabilities.cumsum(1) < draws).sum(1)
    assert calibration.calibration_error(probabilities, labels) < 0.01
    assert calibration.calibration_error(probabilities, (labels + 1) % 4) > 0.1


def test_scores_by_hand():
    probabilities = np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])
    found = calibration.scores(probabilities, np.array([0, 1]))
    assert found["accuracy"] == 0.5
    assert found["loss"] == pytest.approx((np.log(2) + np.log(10)) / 2)
    brier = (0.25 + 2 * 0.0625 + 0.01 + 0.81 + 0.64) / 2
    assert found["brier_score"] == pytest.approx(brier)


def test_scores_of_what_is_not_finite_are_none():
    probabilities = np.array([[0.5, 0.5], [np.nan, np.nan]])
    labels = np.array([0, 0])
    assert all(np.isnan(score) for score in calibration.scores(probabilities, labels).values())
    assert np.isnan(calibration.reliability(probabilities, labels).accuracy).all()
    with pytest.raises(NotFiniteError, match="net: logits of 1 of 2 examples are not finite"):
        finite_logits("net", probabilities)


@pytest.mark.parametrize("logit", [np.nan, np.inf, -np.inf])
def test_answers_of_a_batch_do_not_count_where_a_logit_is_not_finite(logit):
    logits = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    labels = np.array([0, 0, -1])
    assert summed_correct(logits, labels) == 1
    # An image that only fills the batch may be anything.
    logits[2, 0] = logit
    assert summed_correct(logits, labels) == 1
    logits[1, 0] = logit
    assert np.isnan(summed_correct(logits, labels))
    assert np.isnan(summed_loss(logits, labels))


def test_averages_grow_over_all_subsets():
    probabilities = RNG.dirichlet(np.ones(3), (3, 40))
    labels = RNG.integers(0, 3, 40)
    found = growth(probabilities, labels)
    single = [(p.argmax(1) == labels).mean() for p in probabilities]
    pairs = [
        ((probabilities[i] + probabilities[j]).argmax(1) == labels).mean()
        for i, j in ((0, 1), (0, 2), (1, 2))
    ]
    whole = (probabilities.sum(0).argmax(1) == labels).mean()
    expected = [np.mean(single), np.mean(pairs), whole]
    np.testing.assert_allclose(found["mean"]["accuracy"], expected)
    np.testing.assert_allclose(found["lowest"]["accuracy"], [min(single), min(pairs), whole])
    np.testing.assert_allclose(found["highest"]["accuracy"], [max(single), max(pairs), whole])


def test_many_subsets_are_drawn():
    probabilities = RNG.dirichlet(np.ones(3), (12, 5))
    assert growth(probabilities, RNG.integers(0, 3, 5))["mean"]["accuracy"].shape == (12,)


def test_disagreement_is_symmetric_and_zero_with_itself():
    answers = np.array([[0, 1, 2, 2], [0, 1, 1, 1], [1, 0, 0, 0]])
    expected = [[0, 0.5, 1], [0.5, 0, 1], [1, 1, 0]]
    np.testing.assert_array_equal(disagreement(answers), expected)


def run(out, *words):
    assert main(["analyze", "ensembles", f"--out={out}", *map(str, words)]) == 0
    text = json.loads((out / "ensembles.json").read_text())
    with np.load(out / "ensembles.npz") as arrays:
        return text["results"], dict(arrays)


TEN_CROPS = {"crops": 10, "image_size": 8, "crop_fraction": 0.8}


@pytest.mark.parametrize(
    "fields",
    [{}, *(pytest.param(o, marks=pytest.mark.slow) for o in ({"scales": "8,12"}, TEN_CROPS))],
    ids=["plain", "scales", "ten crops"],
)
def test_one_network_is_what_evaluate_says(fields, small_run, tmp_path, capsys):
    options = [f"--config.evaluate.{name}={value}" for name, value in fields.items()]
    assert main(["evaluate", f"--workdir={small_run}", "--json", *options]) == 0
    expected = json.loads(capsys.readouterr().out.splitlines()[-1])
    results, arrays = run(tmp_path, f"--workdir={small_run}", *options)
    for name in ("residual", "mean of 1"):
        assert results[name]["accuracy"] == expected["accuracy"]
        assert results[name]["loss"] == pytest.approx(expected["loss"], 1e-5)
    assert arrays["residual/logits"].shape == (360, 10)
    assert arrays["disagreement"] == 0


def test_probabilities_are_averaged(small_run, small_plain_run, tmp_path):
    results, arrays = run(tmp_path, "--workdir", small_run, small_plain_run)
    names = "residual", "plain"
    logits = np.stack([arrays[f"{name}/logits"] for name in names]).astype(np.float64)
    mean = np.exp(log_softmax(logits, -1)).mean(0)
    labels = arrays["labels"]
    assert results["mean of 2"]["accuracy"] == pytest.approx((mean.argmax(1) == labels).mean())
    loss = -np.log(mean[np.arange(len(labels)), labels]).mean()
    assert results["mean of 2"]["loss"] == pytest.approx(loss)
    answers = logits.argmax(-1)
    assert arrays["disagreement"][0, 1] == (answers[0] != answers[1]).mean()
    assert (tmp_path / "ensembles_growth.png").exists()


def test_other_data_are_refused(small_run, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(small_run, other)
    facts = json.loads((other / "data.json").read_text())
    (other / "data.json").write_text(json.dumps(facts | {"name": "letters"}))
    out = f"--out={tmp_path / 'out'}"
    command = ["analyze", "ensembles", out, "--workdir", str(small_run), str(other)]
    assert main(command) == 2
    assert "was trained on other data than residual" in capsys.readouterr().err
    assert main([*command, "--examples=9"]) == 2
    assert "they take a whole split" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
