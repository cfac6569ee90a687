"""What is analysed is what was trained and evaluated."""

import json

import jax
import numpy as np
import pytest

from resnet_jax.analysis.subject import open_config, open_runs
from resnet_jax.cli import main
from resnet_jax.errors import UserError


def test_error_on_all_examples_is_that_of_the_run(small_run):
    (subject,) = open_runs([str(small_run)], {})
    examples = subject.examples(None, None, 0)
    predicted = jax.jit(lambda model, x: model(x).argmax(-1))(subject.model, examples.images)
    result = json.loads((small_run / "status.json").read_text())["result"]
    assert (predicted == examples.labels).mean() == pytest.approx(result["accuracy"])
    assert subject.step == 10
    assert examples.facts == {"data": "digits", "split": "test", "examples": 360, "seed": None}


def test_examples_are_drawn_by_the_seed(small_run):
    (subject,) = open_runs([str(small_run)], {})
    few, same, other = (subject.examples("train", 7, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(few.images, same.images)
    assert not np.array_equal(few.images, other.images)
    with pytest.raises(UserError, match=r"--examples = 361: allowed: from 1 to 360"):
        subject.examples(None, 361, 0)
    assert len(subject.examples(None, 361, 0, or_fewer=True).labels) == 360


def test_a_run_at_its_start_is_its_config_at_initialisation(small_run):
    (subject,) = open_runs([str(small_run)], {}, "init")
    fields = {"model.depth": 14, "model.shortcut": "A"}
    config = open_config("configs/digits.py", fields)
    images = config.examples(None, 4, 0).images
    np.testing.assert_allclose(subject.model(images), config.model(images), rtol=1e-5)
    assert (subject.step, config.step) == (0, 0)
    earlier = subject.at("5")
    assert earlier.step == 5
    assert not np.allclose(earlier.model(images), subject.model(images))
    with pytest.raises(UserError, match="a config has no checkpoints"):
        config.at("5")


def test_names_tell_runs_apart(small_run, tmp_path):
    other = tmp_path / "other" / small_run.name
    other.parent.mkdir()
    other.symlink_to(small_run)
    subjects = open_runs([str(small_run), str(other)], {})
    assert [s.name for s in subjects] == [f"{small_run.parent.name}/residual", "other/residual"]
    with pytest.raises(UserError, match="names a directory twice"):
        open_runs([str(small_run), str(small_run)], {})


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["lesion"], "--workdir = None: give it or --config"),
        (["lesion", "--workdir=nowhere"], "'nowhere': does not exist"),
        (["lesion", "--config=configs/digits.py"], "--out = None: is needed except"),
        (["lesion", "--workdir=RUN", "--seed=-1"], "--seed = -1: allowed: from 0"),
        (["lesion", "--workdir=RUN", "--out=RUN/config.json/new"], "new': cannot be written"),
        (["lesion", "--config=configs/digits.py", "--step=5"], "a config has no checkpoints"),
        (
            ["lesion", "--workdir=RUN", "--step=newest"],
            "--step = 'newest': allowed: latest, best, init, or a number",
        ),
        (["lesion", "--workdir=RUN", "--step=7"], "7"),
        (["lesion", "--workdir=RUN", "--split=dev"], "digits has train, test"),
        (["lesion", "--workdir=RUN", "--out=RUN/config.json"], "is no directory"),
        (["lesion", "--workdir=RUN", "--config.model.depth=20"], "belongs to the run"),
    ],
)
def test_a_wrong_call_is_refused(small_run, capsys, words, problem):
    before = sorted(small_run.rglob("*"))
    assert main(["analyze", *(word.replace("RUN", str(small_run)) for word in words)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert problem in error
    assert sorted(small_run.rglob("*")) == before
