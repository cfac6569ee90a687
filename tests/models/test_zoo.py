"""Parameter counts and multiply-adds against the published ones."""

import jax
import numpy as np
import pytest
from flax import nnx

from resnet_jax import models


def abstract(name, **overrides):
    """Without arrays; the deepest scanned, which is faster to trace."""
    options = {"scan_blocks": None, **overrides}
    return nnx.eval_shape(lambda: models.create(name, rngs=nnx.Rngs(0), **options))


@pytest.mark.parametrize("name", models.ZOO)
def test_parameter_count_is_the_published_one(name):
    assert models.count_parameters(abstract(name)) == models.ZOO[name].parameters


@pytest.mark.parametrize("depth", [20, 56])
def test_option_b_adds_two_projections_at_every_depth(depth):
    with_a = models.count_parameters(abstract(f"resnet{depth}"))
    assert models.count_parameters(abstract(f"resnet{depth}", shortcut="B")) == with_a + 2752


@pytest.mark.parametrize(
    ("name", "overrides", "size", "macs"),
    [
        ("resnet20", {}, 32, 40.55e6),
        ("resnet32", {}, 32, 68.86e6),
        ("resnet44", {}, 32, 97.17e6),
        ("resnet56", {}, 32, 125.49e6),
        ("resnet110", {}, 32, 252.89e6),
        ("resnet18", {}, 224, 1.814e9),
        ("resnet34", {}, 224, 3.664e9),
        ("resnet50", {}, 224, 4.089e9),
        ("resnet50", {"stride_in_1x1": True}, 224, 3.857e9),
        ("resnet50", {"convolution": "loop_safe"}, 224, 4.089e9),
        ("resnet101", {}, 224, 7.801e9),
        ("resnet152", {}, 224, 11.514e9),
        ("resnext50_32x4d", {}, 224, 4.230e9),
        ("resnext101_32x8d", {}, 224, 16.414e9),
        ("resnext101_64x4d", {}, 224, 15.460e9),
        ("wide_resnet50_2", {}, 224, 11.398e9),
        ("wide_resnet101_2", {}, 224, 22.753e9),
        ("wrn28_10", {}, 32, 5.243e9),
        ("resnet1202", {}, 32, 2.829e9),
    ],
)
def test_multiply_adds_are_the_published_ones(name, overrides, size, macs):
    counted = models.count_macs(abstract(name, **overrides), (size, size, 3))
    assert counted == pytest.approx(macs, rel=5e-4)


def test_multiply_adds_of_resnet50d_are_the_published_ones():
    """To half a percent: the source has three digits."""
    counted = models.count_macs(abstract("resnet50d"), (224, 224, 3))
    assert counted == pytest.approx(4.35e9, rel=5e-3)


def test_any_legal_depth_has_a_name():
    assert len(abstract("cifar_resnet26").stage1.blocks) == 4
    assert len(abstract("cifar_plain14").stage3.blocks) == 2
    assert len(abstract("cifar_resnet50").stage1.blocks) == 8


@pytest.mark.parametrize("name", ["resnet26", "plain14", "resnet51"])
def test_a_bare_name_is_a_row_of_the_zoo_or_refused_with_the_new_spelling(name):
    with pytest.raises(models.IllegalChoiceError, match=f"cifar_{name}") as error:
        models.create(name)
    assert error.value.known[0] == f"cifar_{name}"


def test_create_takes_a_seed_or_rngs():
    made = {seed: models.create("cifar_resnet8", seed=seed) for seed in (0, 7)}
    for seed, model in made.items():
        eager = models.create("cifar_resnet8", rngs=nnx.Rngs(seed))
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
            nnx.to_pure_dict(nnx.state(model)),
            nnx.to_pure_dict(nnx.state(eager)),
        )
    default = models.create("cifar_resnet8").head.kernel.get_value()
    np.testing.assert_array_equal(default, made[0].head.kernel.get_value())
    assert not np.array_equal(default, made[7].head.kernel.get_value())
    with pytest.raises(models.IllegalChoiceError, match="rngs are given") as error:
        models.create("resnet20", seed=0, rngs=nnx.Rngs(0))
    assert error.value.field == "seed"


def test_a_seeded_network_can_be_abstract():
    assert models.count_parameters(nnx.eval_shape(lambda: models.create("resnet20"))) == 269_722


def test_imagenet_names_win_over_cifar_depths():
    assert models.count_parameters(abstract("resnet50")) == 25_557_032
    cifar = nnx.eval_shape(lambda: models.resnet("cifar", 50, rngs=nnx.Rngs(0)))
    assert len(cifar.stage1.blocks) == 8


def test_bottleneck_cifar_net_has_9n_plus_2_layers():
    assert len(abstract("resnet20", depth=29, block="bottleneck").stage1.blocks) == 3


@pytest.mark.parametrize(
    ("arguments", "field", "words"),
    [
        ({"family": "cifar", "depth": 21}, "depth", "20 and 26"),
        ({"family": "cifar", "depth": 2}, "depth", "8"),
        ({"family": "imagenet", "depth": 20}, "depth", "18, 34, 50, 101, 152, 200"),
        ({"family": "imagenet", "depth": 50, "block": "basic"}, "depth", "18, 34"),
        ({"family": "imagenet", "depth": 50, "shortcut": "Z"}, "shortcut", "none, A, B, C"),
        ({"family": "mnist", "depth": 20}, "family", "cifar, wide, imagenet"),
        ({"family": "cifar", "depth": 20, "stem": "big"}, "stem", "cifar, imagenet"),
        ({"family": "cifar", "depth": 20, "block": "huge"}, "block", "basic, bottleneck"),
        ({"family": "cifar", "depth": 20, "stride_in_1x1": True}, "stride_in_1x1", "False"),
        ({"family": "cifar", "depth": 20, "convolution": "fft"}, "convolution", "native"),
    ],
)
def test_illegal_choice_names_field_and_what_is_allowed(arguments, field, words):
    with pytest.raises(models.IllegalChoiceError, match=words) as error:
        models.resnet(**arguments, rngs=nnx.Rngs(0))
    assert error.value.field == field


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(models.IllegalChoiceError, match="resnet20"):
        models.create("vgg16", rngs=nnx.Rngs(0))
