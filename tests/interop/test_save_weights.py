"""`save_weights` and its inverse, and the names of every network of the zoo."""

import math
import os
import stat

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from nets import abstract, same_bits, small_net

from resnet_jax import models
from resnet_jax.interop import load_weights, save_weights, torch_state
from resnet_jax.interop.arrays import shapes, torch_shape
from resnet_jax.interop.namings import (
    NAMINGS,
    bare_name,
    default_naming,
    kinds,
    recognise,
    their_names,
)


@st.composite
def architectures(draw):
    """Arguments of `models.ResNet`; some contradict each other."""

    def optional(strategy):
        return draw(st.none() | strategy)

    return {
        "num_classes": draw(st.integers(1, 3)),
        "stage_sizes": draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        "block": draw(st.sampled_from(list(models.BLOCKS))),
        "activation_order": draw(st.sampled_from(list(models.ORDERS))),
        "shortcut": draw(st.sampled_from(list(models.SHORTCUTS))),
        "branch_init": draw(st.sampled_from(models.BRANCH_INITS)),
        "norm": draw(st.sampled_from(list(models.NORMS))),
        "stem": draw(st.sampled_from(list(models.STEMS))),
        "squeeze_reduction": optional(st.just(2)),
        "scan_blocks": draw(st.booleans()),
    }


@given(fields=architectures())
def test_loading_what_was_saved_is_the_identity(fields, tmp_path_factory):
    try:
        model, other = small_net(0, **fields), small_net(1, **fields)
    except models.IllegalChoiceError:
        assume(False)
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    save_weights(model, path)
    report = load_weights(other, path)
    assert report.other_classes is None
    assert same_bits(model, other)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"branch_init": "fixup", "norm": "none"}, "layer1.0.bias1.bias"),
        ({"branch_init": "layerscale"}, "layer2.1.ls.gamma"),
        ({"shortcut": "highway"}, "layer1.0.gate.weight"),
        ({"activation_order": "norm_after_addition"}, "layer1.0.norm.running_mean"),
        ({"squeeze_reduction": 2, "norm": "frozen_batch"}, "layer1.0.se.fc1.weight"),
    ],
)
def test_names_of_what_torchvision_has_not(fields, name):
    model, other = small_net(1, **fields), small_net(2, **fields)
    state = torch_state(model)
    assert name in state
    load_weights(other, state)
    assert same_bits(model, other)


@pytest.mark.parametrize("naming", NAMINGS)
def test_every_naming_is_read_back(naming):
    fields = {"activation_order": "full_preactivation"} if naming == "wide_resnet" else {}
    model, other = small_net(1, **fields), small_net(2, **fields)
    assert load_weights(other, torch_state(model, naming)).naming == naming
    assert same_bits(model, other)


@pytest.mark.parametrize("name", models.ZOO)
def test_names_of_the_zoo_go_over_and_back(name):
    model = abstract(name, scan_blocks=True)
    ours = shapes(model)
    for naming in {default_naming(model), "torchvision"}:
        names = their_names(ours, naming, kinds(model))
        written = [theirs[0] for theirs in names.values()]
        bare = {bare_name(theirs) for theirs in written}
        assert len(bare) == len(ours)
        assert recognise(ours, kinds(model), bare) == (naming, names)
        for theirs in names.values():
            assert [n for n in theirs if bare_name(n) in bare] == [theirs[0]]


@pytest.mark.parametrize(
    ("name", "family", "depth", "shortcut"),
    [(f"resnet{depth}", "imagenet", depth, "B") for depth in (18, 34, 50, 101, 152)]
    + [("resnet56", "cifar", 56, "A"), ("plain20", "cifar", 20, "none")],
)
def test_names_and_shapes_are_those_of_torch(name, family, depth, shortcut, torch_resnet):
    model = abstract(name, scan_blocks=True)
    torch = pytest.importorskip("torch")
    with torch.device("meta"):
        theirs = torch_resnet(family, depth, shortcut, 1000 if family == "imagenet" else 10)
    expected = {
        name: tuple(value.shape)
        for name, value in theirs.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    ours = shapes(model)
    names = their_names(ours, default_naming(model), kinds(model))
    assert {names[n][0]: torch_shape(leaf.shape) for n, leaf in ours.items()} == expected


def test_the_classifier_of_bit_is_a_convolution():
    state = torch_state(small_net(activation_order="full_preactivation", stem="imagenet"))
    assert state["head.fc.weight"].shape == (7, 16, 1, 1)


def test_batch_norms_have_torchs_counter():
    state = torch_state(small_net())
    counters = [name for name in state if name.endswith("num_batches_tracked")]
    assert len(counters) == sum(name.endswith("running_var") for name in state)
    assert state["bn1.num_batches_tracked"].dtype == np.int64
    assert state["bn1.num_batches_tracked"].shape == ()


def test_the_bits_of_special_values_survive(tmp_path):
    model, other = small_net(1), small_net(2)
    special = np.array([np.nan, -np.nan, np.inf, -0.0, 1e-45, math.pi, -np.inf], np.float32)
    model.head.bias.set_value(special)
    save_weights(model, tmp_path / "net.safetensors")
    load_weights(other, tmp_path / "net.safetensors")
    assert np.asarray(other.head.bias.get_value()).tobytes() == special.tobytes()


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "net.safetensors"
    save_weights(small_net(1), path)
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        save_weights(small_net(2), path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_the_file_is_as_readable_as_any(tmp_path):
    (tmp_path / "plain").touch()
    save_weights(small_net(), tmp_path / "net.safetensors")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 1


@pytest.mark.parametrize(
    ("path", "naming", "match"),
    [
        ("net.pth", None, r"\.safetensors"),
        ("net.safetensors", "caffe", "allowed: torchvision"),
        ("net.safetensors", "wide_resnet", "has no name for"),
    ],
)
def test_what_cannot_be_saved(tmp_path, path, naming, match):
    with pytest.raises(ValueError, match=match):
        save_weights(small_net(), tmp_path / path, naming)
    assert not list(tmp_path.iterdir())
