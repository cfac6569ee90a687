"""What is kept of a stopped call is taken up by the same call only; files are JSON."""

import argparse
import json
from types import SimpleNamespace

import numpy as np
from ml_collections import ConfigDict

from resnet_jax.analysis.request import Answer, Request, plain


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
