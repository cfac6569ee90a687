"""Warnings about the splits of a run."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_files import encoded, scene, write_folder

from resnet_jax.config import override
from resnet_jax.data.examples import ArrayExamples, Part, Source
from resnet_jax.data.sources import open_source
from resnet_jax.data.splits import warnings_of
from resnet_jax.training.experiment import make_experiment


def of(source, train, evaluation):
    return list(warnings_of(source, train, source.open(train), evaluation))


@pytest.mark.parametrize(
    ("train", "evaluation", "words"),
    [
        ("train", "test", None),
        ("train[:50%]", "train[50%:]", None),
        ("train", "train", "all examples of the evaluation split 'train'"),
        ("train[:20]", "train[5:9]", "all examples of the evaluation split 'train[5:9]'"),
        ("train[:20]", "train[10:]", "10 of the 14 examples of the evaluation split"),
        ("train+test", "test", "all examples"),
        ("train[:10]+train[20:]", "train[8:22]", "4 of the 14 examples"),
    ],
)
def test_examples_of_both_splits_are_counted(fashion, train, evaluation, words):
    """Against the rows that the names stand for: 24 of train and 11 of test."""
    found = of(fashion, train, evaluation)
    assert len(found) == (words is not None)
    assert all(words in warning for warning in found)


@given(*[st.lists(st.integers(0, 30), min_size=2, max_size=2).map(sorted)] * 2)
def test_the_count_is_that_of_the_common_rows(first, second):
    parts = {"a": [Part("file", *first)], "b": [Part("file", *second), Part("other", 0, 3)]}
    examples = ArrayExamples(np.zeros((2, 1, 1, 1), np.uint8), np.array([0, 1]))
    source = Source("s", ("x", "y"), (1, 1, 1), ("a",), lambda _: examples, str, parts.get)
    common = len(set(range(*first)) & set(range(*second)))
    total = len(range(*second)) + 3
    found = of(source, "a", "b")
    assert len(found) == (common > 0)
    assert all(f"{common} of the {total} examples" in warning for warning in found)


def test_one_class(tmp_path):
    png = encoded(scene(4, 4), "PNG")
    files = dict.fromkeys(["train/cat/1.png", "val/cat/1.png"], png)
    source = open_source(f"folder:{write_folder(tmp_path, files)}")
    (warning,) = of(source, "train", "val")
    assert "has one class, cat" in warning
    assert of(open_source("digits"), "train", "test") == []


def test_a_run_warns_once_and_trains(small_config, capsys):
    from resnet_jax.errors import warn

    warn.cache_clear()
    small_config = override(small_config, {"data.eval_split": "train"})
    for _ in range(2):
        make_experiment(small_config)
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith("warning: all examples of the evaluation split 'train' of digits are in")
