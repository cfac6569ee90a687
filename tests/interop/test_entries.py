"""Which state dict of a checkpoint is taken, and how the user chooses another."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import abstract, small_net
from safetensors.numpy import save_file

from resnet_jax.interop import (
    Preprocessing,
    WeightsError,
    fit_weights,
    load_weights,
    save_weights,
    torch_state,
)
from resnet_jax.interop.entries import choose_entry
from resnet_jax.interop.preprocessing import HALF, IMAGENET


def filled(value: float, prefix: str = "") -> dict[str, np.ndarray]:
    names = {"fc.weight": (7, 16), "fc.bias": (7,)}
    return {prefix + name: np.full(shape, value, np.float32) for name, shape in names.items()}


RAW, AVERAGE = filled(1.0), filled(2.0)
OPTIMIZER = {"state": {0: {"exp_avg": np.ones(3), "step": np.ones(())}}, "param_groups": [{}]}
# How trainers save a network beside its moving average → entry with the average, and the other.
CHECKPOINTS = {
    "timm": (
        {"epoch": 9, "arch": "x", "state_dict": RAW, "optimizer": OPTIMIZER, "state_dict_ema": AVERAGE},
        "state_dict_ema", "state_dict",
    ),
    "torchvision": (
        {"model": RAW, "model_ema": filled(2.0, "module.") | {"n_averaged": np.array(5)}},
        "model_ema", "model",
    ),
    "mmengine": ({"meta": {}, "state_dict": RAW, "ema_state_dict": AVERAGE}, "ema_state_dict", "state_dict"),
    "basicsr": ({"params": RAW, "params_ema": AVERAGE}, "params_ema", "params"),
    "nested": ({"net": RAW, "ema": {"decay": 0.9, "module": AVERAGE}}, "ema.module", "net"),
    "shadow": ({"model_state_dict": RAW, "ema": {"shadow": AVERAGE}}, "ema.shadow", "model_state_dict"),
    "swa": ({"model": RAW, "swa_model": AVERAGE}, "swa_model", "model"),
    "lightning": (
        {"state_dict": filled(1.0, "model.") | filled(2.0, "model_ema.module."), "loops": {}},
        "state_dict.model_ema", "state_dict.model",
    ),
    "ema_pytorch": (
        filled(1.0, "online_model.") | filled(2.0, "ema_model.") | {"step": np.array(3)},
        "ema_model", "online_model",
    ),
    "beside the state dict": (RAW | {"ema": AVERAGE}, "ema", "."),
}  # fmt: skip


@pytest.mark.parametrize("trainer", CHECKPOINTS)
def test_averages_come_first_the_report_names_both_and_the_user_may_choose(trainer):
    content, average, raw = CHECKPOINTS[trainer]
    model = small_net()
    report = load_weights(model, content, strict=False)
    assert np.all(np.asarray(model.head.bias) == 2)
    assert (report.entry, report.other_entries) == (average, (raw,))
    assert f"entry: {average} (not taken: {raw})" in str(report)
    report = load_weights(model, content, strict=False, entry=raw)
    assert np.all(np.asarray(model.head.bias) == 1)
    assert (report.entry, report.other_entries) == (raw, (average,))


def test_an_average_that_is_absent_or_none_leaves_the_usual_entry():
    for content in ({"state_dict": RAW, "state_dict_ema": None}, {"state_dict": RAW, "epoch": 1}):
        entry, others = choose_entry(content, None)
        assert (entry.name, others) == ("state_dict", ())
    only_average = {"state_dict_ema": AVERAGE}
    assert choose_entry(only_average, None)[0].name == "state_dict_ema"
    assert fit_weights(small_net(), RAW, strict=False)[1].entry is None


def test_an_entry_that_is_not_there_is_refused_with_those_that_are():
    content = CHECKPOINTS["timm"][0]
    words = "entry 'model' is not there; there are: state_dict, state_dict_ema"
    with pytest.raises(WeightsError, match=re.escape(words)):
        load_weights(small_net(), content, strict=False, entry="model")


@pytest.mark.parametrize(
    "content", [{"student": RAW, "teacher": AVERAGE}, {"ema": {"0.99": RAW, "0.999": AVERAGE}}]
)
def test_entries_that_no_rule_tells_apart_are_refused(content):
    with pytest.raises(
        WeightsError, match="choose one as the entry: (student, teacher|ema.0.99, )"
    ):
        load_weights(small_net(), content, strict=False)


def test_averages_without_statistics_do_not_fit_and_the_error_names_the_other_entry():
    state = torch_state(small_net())
    trained = {name: array for name, array in state.items() if "running" not in name}
    with pytest.raises(WeightsError, match=r"entry ema \(not taken: model\)[^\n]*\n  \d+ missing"):
        load_weights(small_net(), {"model": state, "ema": trained})


names = st.text("abcdefgh_", min_size=1, max_size=8)


@settings(max_examples=30)
@given(names.filter(lambda name: "ema" not in name and "avg" not in name and "swa" not in name))
def test_the_average_is_taken_whatever_the_other_is_called(name):
    content = {name: RAW, f"{name}_ema": AVERAGE}
    entry, others = choose_entry(dict(reversed(content.items())), None)
    assert (entry.name, others) == (f"{name}_ema", (name,))


@pytest.mark.parametrize(
    ("network", "naming", "expected"),
    [
        ("resnet18", "torchvision", IMAGENET),
        ("resnet18", "transformers_resnet", IMAGENET),
        ("bit_r50x1", "timm_resnetv2", HALF),
        ("bit_r50x1", "transformers_bit", HALF),
        ("resnet20", "torchvision", None),
        ("wrn28_10", "wide_resnet", None),
    ],
)
def test_the_preprocessing_that_belongs_to_weights(network, naming, expected):
    model = abstract(network, num_classes=10)
    zeros = {name: np.zeros(shape, np.float32) for name, shape in torch_shapes(model, naming)}
    report = fit_weights(model, zeros)[1]
    assert report.naming == naming
    assert report.preprocessing == expected
    assert expected is None or f"mean {expected.mean[0]}" in str(report)


def torch_shapes(model, naming):
    from resnet_jax.interop.arrays import shapes, torch_shape
    from resnet_jax.interop.namings import kinds, their_names

    ours = shapes(model)
    for name, theirs in their_names(ours, naming, kinds(model)).items():
        yield theirs[0], torch_shape(ours[name].shape)


def test_images_of_other_channels_have_no_published_constants():
    model = abstract("resnet18", num_classes=10, in_channels=1)
    zeros = {n: np.zeros(s, np.float32) for n, s in torch_shapes(model, "torchvision")}
    assert fit_weights(model, zeros)[1].preprocessing is None


@pytest.mark.parametrize(
    "preprocessing",
    [None, Preprocessing((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)), replace(HALF, interpolation="bicubic")],
)
def test_a_file_of_ours_says_the_preprocessing_of_its_own_weights(tmp_path, preprocessing):
    model = small_net(stem="imagenet")
    save_weights(model, tmp_path / "net.safetensors", preprocessing=preprocessing)
    report = load_weights(model, tmp_path / "net.safetensors")
    assert report.preprocessing == preprocessing


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (
            "config.json",
            {"architecture": "resnet50", "pretrained_cfg": {
                "mean": [0.1, 0.2, 0.3], "std": [1, 1, 1], "interpolation": "bicubic", "crop_pct": 0.95,
            }},
            Preprocessing((0.1, 0.2, 0.3), (1, 1, 1), "bicubic", 0.95),
        ),
        (
            "preprocessor_config.json",
            {"image_mean": [0.1] * 3, "image_std": [2, 2, 2], "resample": 2, "crop_pct": 0.875},
            Preprocessing((0.1,) * 3, (2, 2, 2), "bilinear", 0.875),
        ),
        ("config.json", {"model_type": "resnet"}, IMAGENET),
        ("config.json", {"pretrained_cfg": {"mean": "no list", "std": 1}}, IMAGENET),
        ("config.json", [], IMAGENET),
    ],
)  # fmt: skip
def test_what_a_hub_repository_says_comes_before_what_is_usual(
    hub_repository, tmp_path, name, content, expected
):
    model = small_net(stem="imagenet")
    save_file({n: a for n, a in torch_state(model).items()}, tmp_path / "net.safetensors")
    hub_repository({"model.safetensors": tmp_path / "net.safetensors"})
    (tmp_path / name).write_text(json.dumps(content))
    hub_repository({name: tmp_path / name})
    assert load_weights(model, "hf://owner/name").preprocessing == expected


@pytest.fixture
def hub_repository(tmp_path, monkeypatch):
    """Puts files into the hub's cache, as those of repository `owner/name`; offline."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repository, commit = tmp_path / "hub" / "models--owner--name", "0" * 40

    def put(files):
        for name, path in files.items():
            snapshot = repository / "snapshots" / commit / name
            snapshot.parent.mkdir(parents=True, exist_ok=True)
            snapshot.write_bytes(path.read_bytes())
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / "main").write_text(commit)

    return put
