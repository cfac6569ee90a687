"""What is kept of a stopped call is taken up by the same call only; files are JSON."""

import argparse
import json
from types import SimpleNamespace

import numpy as np
import pytest
from ml_collections import ConfigDict

from resnet_jax.analysis.request import Answer, Request, drawn, plain
from resnet_jax.config import Config, override
from resnet_jax.errors import UserError
from resnet_jax.plotting.style import Figure, canvas_of


def make_request(out):
    options = argparse.Namespace(analysis="lesion", out=str(out), seed=0)
    return Request([], options, out)


def total(factor, item):
    return {"total": factor * item["x"].sum()}


def test_parts_are_those_of_the_same_weights_and_items(tmp_path):
    subject = SimpleNamespace(name="net", config=ConfigDict({"seed": 0}))
    request = make_request(tmp_path)
    x = np.arange(12.0, dtype=np.float32)
    # Other devices split the same examples otherwise; a run may have been trained again.
    for rows, factor in ((6, 1), (3, 1), (3, 2)):
        items = {"x": x.reshape(rows, -1)}
        result = request.over_items(subject, "sums", total, np.float32(factor), items)
        np.testing.assert_array_equal(result["total"], factor * items["x"].sum(1))
    assert len(list(tmp_path.glob(".lesion.partial/*.npz"))) == 3
    request.over_items(subject, "sums", total, np.float32(factor), items)
    assert len(list(tmp_path.glob(".lesion.partial/*.npz"))) == 3
    request.write(Answer({}, {"net": {"ratio": np.float32(np.nan)}}, []))
    assert json.loads((tmp_path / "lesion.json").read_text())["results"] == {"net": {"ratio": None}}
    assert not (tmp_path / ".lesion.partial").exists()


def test_plain():
    tree = {"a": np.arange(2), "b": (np.float32(0.5), float("inf")), "c": "word"}
    assert plain(tree) == {"a": [0, 1], "b": [0.5, None], "c": "word"}


def test_captions_name_the_fields_in_which_networks_differ(tmp_path):
    configs = [Config(), override(Config(), {"model.depth": 56, "seed": 3})]
    subjects = [
        SimpleNamespace(name=name, run=None, step=0, config=config, data={"name": "digits"})
        for name, config in zip("ab", configs, strict=True)
    ]
    options = argparse.Namespace(analysis="lesion", out=str(tmp_path), seed=0)
    with drawn():
        figure = Figure("deletion", "Error after deleting a block.", canvas_of(1, 1)[0])
    Request(subjects, options, tmp_path).write(Answer({}, {}, [figure]))
    content = json.loads((tmp_path / "lesion.json").read_text())
    assert content["networks_differ_in"] == {"model.depth": [20, 56]}
    caption = "Error after deleting a block. The networks differ in depth."
    assert content["figures"] == {"deletion": caption}
    Request(subjects[:1], options, tmp_path).write(Answer({}, {}, [figure]))
    content = json.loads((tmp_path / "lesion.json").read_text())
    assert content["figures"] == {"deletion": "Error after deleting a block."}


@pytest.mark.parametrize("split", [None, "train"])
def test_networks_are_asked_about_the_examples_of_one_split(tmp_path, split):
    facts = {"name": "digits", "image_shape": [8, 8, 1], "class_names": ["0"]}
    facts |= {"mean": [0.0], "std": [1.0]}
    subjects = [
        SimpleNamespace(name=name, data=facts | {"eval_split": name}, evaluated_image=None)
        for name in ("test", "validation")
    ]
    options = argparse.Namespace(analysis="lesion", out=str(tmp_path), seed=0, split=split)
    request = Request(subjects, options, tmp_path)
    if split:
        request.one_data_set()
        return
    with pytest.raises(UserError, match="--split"):
        request.one_data_set()
