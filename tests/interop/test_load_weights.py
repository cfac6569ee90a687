"""What `load_weights` accepts, refuses and leaves out."""

import jax.numpy as jnp
import numpy as np
import pytest
from nets import leaves, same_bits, small_net

from resnet_jax import models
from resnet_jax.interop import WeightsError, load_weights, torch_state


@pytest.fixture
def weights():
    """Of another network of the same architecture."""
    return torch_state(small_net(seed=1))


@pytest.fixture
def model():
    return small_net(seed=2)


def renamed(weights, *replacements):
    names = {}
    for name, array in weights.items():
        for old, new in replacements:
            name = name.replace(old, new)
        names[name] = array
    return names


def is_loaded(model) -> bool:
    return same_bits(model, small_net(seed=1))


def test_names_of_the_common_cifar_code(model, weights):
    names = renamed(weights, ("fc.", "linear."), ("downsample.", "shortcut."))
    report = load_weights(model, {f"module.{name}": array for name, array in names.items()})
    assert is_loaded(model)
    assert len(report.loaded) == len(leaves(model))


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state", "net"])
def test_wrappers(model, weights, wrapper):
    load_weights(model, {"epoch": 3, wrapper: weights})
    assert is_loaded(model)


def test_names_of_timm_squeeze_excitation_code():
    model, other = (small_net(seed, squeeze_reduction=2) for seed in (1, 2))
    names = renamed(torch_state(other), ("se.fc1", "se.conv_reduce"), ("se.fc2", "se.conv_expand"))
    load_weights(
        model, {n: a[:, :, 0, 0] if ".se." in n and a.ndim > 1 else a for n, a in names.items()}
    )
    assert same_bits(model, other)


def test_names_without_the_prefix_of_transformers(model, weights):
    names = torch_state(small_net(seed=1), "transformers_resnet")
    load_weights(model, renamed(names, ("resnet.", "")))
    assert is_loaded(model)


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16, np.float64])
def test_other_float_types_become_float32(model, weights, dtype):
    load_weights(model, {name: array.astype(dtype) for name, array in weights.items()})
    for name, array in leaves(small_net(seed=1)).items():
        assert leaves(model)[name].dtype == np.float32
        assert np.array_equal(leaves(model)[name], array.astype(dtype).astype(np.float32))


def test_later_changes_of_the_mapping_do_not_reach_the_model(model, weights):
    load_weights(model, weights)
    for array in weights.values():
        array[...] = 0
    assert is_loaded(model)


@pytest.mark.parametrize("strict", [True, False])
def test_quantised_weights_are_refused(model, weights, strict):
    weights["conv1.weight"] = weights["conv1.weight"].astype(np.int8)
    with pytest.raises(WeightsError, match=r"conv1\.weight is int8"):
        load_weights(model, weights, strict=strict)


@pytest.fixture
def wrong(weights):
    """Two arrays missing, two unexpected, one mis-shaped."""
    del weights["bn1.running_mean"], weights["layer2.1.conv2.weight"]
    weights["layer3.0.conv1.weight"] = np.zeros((1, 1, 1, 1), np.float32)
    weights["note"] = "not an array"
    weights["conv1.weight"] = weights["conv1.weight"][:, :1]
    return weights


def test_one_error_lists_everything_and_leaves_the_model_alone(model, wrong):
    with pytest.raises(WeightsError) as caught:
        load_weights(model, wrong)
    error = caught.value
    assert error.missing == (
        ("stage2.blocks.1.branch.conv2.kernel", "layer2.1.conv2.weight"),
        ("stem.norm.mean", "bn1.running_mean"),
    )
    assert error.unexpected == ("layer3.0.conv1.weight", "note")
    assert error.misshaped == (("stem.conv.kernel", "conv1.weight", (8, 3, 3, 3), (8, 1, 3, 3)),)
    for names in (*error.missing, *error.misshaped):
        assert names[0] in str(error)
        assert names[1] in str(error)
    assert "(8, 1, 3, 3)" in str(error)
    assert "note" in str(error)
    assert same_bits(model, small_net(seed=2))


def test_not_strict_loads_what_fits_and_reports_the_rest(model, wrong):
    report = load_weights(model, wrong, strict=False)
    left_out = {name for name, _ in report.missing} | {m.ours for m in report.misshaped}
    assert report.unexpected == ("layer3.0.conv1.weight", "note")
    assert left_out.isdisjoint(report.loaded)
    before, after, new = (leaves(m) for m in (small_net(seed=2), model, small_net(seed=1)))
    kept = {name for name in after if np.array_equal(after[name], before[name])}
    assert len(kept) == len(left_out) == 3
    assert all(np.array_equal(after[name], new[name]) for name in after if name not in kept)
    assert "stem.norm.mean" in str(report)


@pytest.mark.parametrize("scan_blocks", [False, True])
@pytest.mark.parametrize("strict", [True, False])
def test_the_classifier_of_other_classes_stays_as_it_was(weights, strict, scan_blocks):
    model = small_net(seed=2, num_classes=4, scan_blocks=scan_blocks)
    report = load_weights(model, weights, strict=strict)
    assert report.other_classes == 7
    assert not report.misshaped
    for name, array in leaves(small_net(seed=2, num_classes=4, scan_blocks=scan_blocks)).items():
        assert np.array_equal(leaves(model)[name], array) == ("head" in name)


def test_a_classifier_of_other_features_is_an_error(model, weights):
    weights["fc.weight"] = weights["fc.weight"][:, 1:]
    with pytest.raises(WeightsError, match=r"head\.kernel \(fc\.weight\): model \(7, 16\)"):
        load_weights(model, weights)


@pytest.mark.parametrize("glob", ["head.*", "fc.*", "*fc*"])
@pytest.mark.parametrize("in_file", ["same", "other shape", "absent"])
def test_skipped_names_of_either_side_are_neither_loaded_nor_missed(model, weights, glob, in_file):
    for name in ("fc.weight", "fc.bias"):
        if in_file == "other shape":
            weights[name] = weights[name][:3, :5] if name == "fc.weight" else weights[name][:3]
        if in_file == "absent":
            del weights[name]
    report = load_weights(model, weights, skip=[glob])
    assert {"head.kernel", "head.bias"} <= set(report.skipped)
    before = small_net(seed=2)
    assert np.array_equal(model.head.kernel.get_value(), before.head.kernel.get_value())
    assert not np.array_equal(
        model.stem.conv.kernel.get_value(), before.stem.conv.kernel.get_value()
    )


def test_a_skipped_block_of_a_scanned_network(weights):
    model = small_net(seed=2, scan_blocks=True)
    load_weights(model, weights, skip=["layer2.1.*"])
    old = small_net(seed=2, scan_blocks=True).stage2.scanned.branch.conv1.kernel.get_value()[0]
    new = small_net(seed=1).stage2.blocks[2].branch.conv1.kernel.get_value()
    loaded = model.stage2.scanned.branch.conv1.kernel.get_value()
    assert np.array_equal(loaded, np.stack([old, new]))


def test_a_glob_that_matches_nothing_is_refused(model, weights):
    with pytest.raises(WeightsError, match=r"'hed\.\*' is no name"):
        load_weights(model, weights, skip=["hed.*"])


def test_weights_of_something_else_are_refused_even_if_not_strict(model):
    with pytest.raises(WeightsError, match="no array"):
        load_weights(model, {"encoder.weight": np.zeros(3, np.float32)}, strict=False)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"activation_order": "full_preactivation"}, {}),
        ({}, {"activation_order": "full_preactivation"}),
        ({"shortcut": "D"}, {"shortcut": "B"}),
        ({"activation_order": "norm_after_addition"}, {}),
        ({"norm": "group"}, {}),
        ({"block": "bottleneck"}, {}),
    ],
)
def test_weights_of_another_architecture_are_refused(ours, theirs):
    with pytest.raises(WeightsError):
        load_weights(small_net(**ours), torch_state(small_net(**theirs)))


def test_frozen_parameters_are_loaded_and_stay_frozen(model, weights):
    models.freeze(model, ["stem", "stage1"])
    load_weights(model, weights)
    assert is_loaded(model)
