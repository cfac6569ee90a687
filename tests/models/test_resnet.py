"""Shapes, types and identities of whole networks."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from resnet_jax import models


def output_shapes(name, image_shape, **overrides):
    model = nnx.eval_shape(
        lambda: models.create(name, in_channels=image_shape[-1], rngs=nnx.Rngs(0), **overrides)
    )
    images = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
    graphdef, state = nnx.split(model)
    logits = jax.eval_shape(lambda s, x: nnx.merge(graphdef, s)(x), state, images)
    features = jax.eval_shape(lambda s, x: nnx.merge(graphdef, s).features(x), state, images)
    return logits, {name: value.shape for name, value in features.items()}


def half(size):
    return -(-size // 2)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(32, 32), (31, 45), (7, 9)])
def test_cifar_net_halves_the_resolution_twice(size, channels):
    height, width = size
    logits, features = output_shapes("resnet20", (height, width, channels), num_classes=7)
    assert (logits.shape, logits.dtype) == ((2, 7), jnp.float32)
    assert features == {
        "stem": (2, height, width, 16),
        "stage1": (2, height, width, 16),
        "stage2": (2, half(height), half(width), 32),
        "stage3": (2, half(half(height)), half(half(width)), 64),
    }


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(224, 224), (97, 131)])
def test_imagenet_net_has_stride_32(name, size, channels):
    _, features = output_shapes(name, (*size, channels))
    height, width = size
    for stage, channels_out in {"stage1": 64, "stage2": 128, "stage3": 256, "stage4": 512}.items():
        height, width = half(half(height)), half(half(width))
        if stage != "stage1":
            height, width = (half(s) for s in features[f"stage{int(stage[-1]) - 1}"][1:3])
        expansion = 4 if name == "resnet50" else 1
        assert features[stage] == (2, height, width, channels_out * expansion)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("resnet20", {}),
        ("resnet110", {"scan_blocks": True}),
        ("resnet20", {"stem": "deep", "antialias": True, "shortcut": "B"}),
        ("resnet18", {"stem": "patchify"}),
        ("resnet50", {"stride_in_1x1": True}),
        ("resnet50d", {}),
        ("bit_r50x1", {}),
    ],
)
def test_feature_strides_are_image_side_over_map_side(name, overrides):
    model = nnx.eval_shape(lambda: models.create(name, rngs=nnx.Rngs(0), **overrides))
    _, features = output_shapes(name, (128, 128, 3), **overrides)
    assert model.feature_strides == {part: 128 // shape[1] for part, shape in features.items()}


@pytest.mark.parametrize("options", [{}, {"scan_blocks": True}, {"remat": "block", "dropout": 0.1}])
def test_a_network_can_be_tabulated(options):
    model = models.create("cifar_resnet14", **options)
    table = nnx.tabulate(
        model,
        jnp.ones((1, 8, 8, 3)),
        jax.random.key(0),
        console_kwargs={"width": 400, "color_system": None},
    )
    assert "stage3" in table
    assert f"Total Parameters: {sum(a.size for a in jax.tree.leaves(nnx.state(model))):,}" in table


@pytest.mark.parametrize("shortcut", ["none", "A", "B", "C"])
@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_every_shortcut_and_block_classifies_odd_images(shortcut, block):
    depth = 8 if block == "basic" else 11
    model = models.resnet("cifar", depth, block=block, shortcut=shortcut, rngs=nnx.Rngs(0))
    logits = nnx.jit(lambda m, x: m(x))(model, jnp.ones((2, 15, 17, 3)))
    assert logits.shape == (2, 10)
    assert np.isfinite(logits).all()


def test_bfloat16_does_not_leak_into_parameters_statistics_or_logits():
    images = jax.random.normal(jax.random.key(0), (8, 16, 16, 3)) * 3 + 1
    model = models.create("cifar_resnet8", dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    assert model(images).dtype == jnp.float32
    for leaf in jax.tree.leaves(nnx.state(model, (nnx.Param, nnx.BatchStat))):
        assert leaf.dtype == jnp.float32
    # A statistic rounded to bfloat16 would have zeros in its lower 16 bits.
    mean = np.asarray(model.stage1.blocks[0].branch.norm1.mean.get_value())
    assert np.any(mean.view(np.uint32) & 0xFFFF)
    # Running statistics agree with float32 ones to bfloat16's precision of the activations.
    exact = models.create("cifar_resnet8", rngs=nnx.Rngs(0))
    exact(images)
    np.testing.assert_allclose(
        mean, exact.stage1.blocks[0].branch.norm1.mean.get_value(), atol=0.01
    )
    assert model.features(images)["stage3"].dtype == jnp.bfloat16


def test_zero_gamma_blocks_start_as_the_shortcut_alone():
    model = models.create(
        "cifar_resnet14", shortcut="A", branch_init="zero_gamma", rngs=nnx.Rngs(0)
    )
    x = jax.random.uniform(jax.random.key(0), (2, 8, 8, 16))
    np.testing.assert_array_equal(model.stage1(x), x)
    down = model.stage2(x)
    np.testing.assert_array_equal(down[..., 8:24], x[:, ::2, ::2])
    assert not down[..., :8].any()
    assert not down[..., 24:].any()


def test_eval_mode_keeps_the_running_statistics():
    model = models.create("cifar_resnet8", rngs=nnx.Rngs(0))
    model.eval()
    before = jax.tree.map(np.asarray, nnx.state(model, nnx.BatchStat))
    model(jnp.ones((2, 8, 8, 3)))
    jax.tree.map(np.testing.assert_array_equal, before, nnx.state(model, nnx.BatchStat))
    view = nnx.view(model, use_running_average=False)
    view(jnp.ones((2, 8, 8, 3)))
    assert nnx.state(view, nnx.BatchStat)["stem"]["norm"]["var"].get_value()[0] < 1


def test_he_initialisation_has_the_deviation_of_the_paper():
    model = models.create("resnet18", rngs=nnx.Rngs(0))
    for conv in (model.stem.conv, model.stage4.blocks[1].branch.conv2):
        kernel = np.asarray(conv.kernel.get_value())
        fan_out = kernel.shape[0] * kernel.shape[1] * kernel.shape[3]
        assert kernel.std() == pytest.approx(np.sqrt(2 / fan_out), rel=0.05)
        assert abs(kernel.mean()) < 0.05 * kernel.std()


def test_import_of_models_loads_nothing_of_the_trainer():
    code = (
        "import sys; from flax import nnx; before = set(sys.modules); import resnet_jax.models;"
        "print(sorted({m for m in set(sys.modules) - before}))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    loaded = eval(printed.stdout)
    ours = {m for m in loaded if m.partition(".")[0] not in sys.stdlib_module_names}
    others = {m for m in ours if not m.startswith("resnet_jax.models")}
    assert others == {"resnet_jax", "resnet_jax.compiler"}


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (jnp.zeros((2, 3, 32, 32)), r"channels come last \(NHWC\), not first \(NCHW\)"),
        (jnp.zeros((2, 32, 32, 1)), r"(?m)must be float\[batch, height, width, 3\], not float32\[2, 32, 32, 1\]$"),
        (jnp.zeros((32, 32, 3)), r"needs a batch axis: x\[None\]"),
        (jnp.zeros((3, 32)), r"(?m)not float32\[3, 32\]$"),
        (jnp.zeros((2, 32, 32, 3), jnp.uint8), "normalise pixels first"),
        (jnp.zeros((2, 32, 32, 3), jnp.int32), "normalise pixels first"),
        (np.zeros((2, 3, 8, 8), np.float64), "NCHW"),
    ],
)  # fmt: skip
def test_other_images_are_refused_when_the_model_is_traced(images, words):
    model = nnx.eval_shape(lambda: models.create("resnet20", rngs=nnx.Rngs(0)))
    for call in (lambda m, x: m(x), lambda m, x: m.features(x), lambda m, x: m.dense_logits(x)):
        with pytest.raises(ValueError, match=words):
            nnx.eval_shape(call, model, images)


def test_grey_images_with_channels_first_are_refused_too():
    model = nnx.eval_shape(lambda: models.create("resnet20", in_channels=1, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match="NCHW"):
        nnx.eval_shape(lambda m, x: m(x), model, jnp.zeros((2, 1, 28, 28)))
    assert nnx.eval_shape(lambda m, x: m(x), model, jnp.zeros((2, 28, 28, 1))).shape == (2, 10)
    assert nnx.eval_shape(lambda m, x: m(x), model, np.zeros((2, 28, 28, 1))).shape == (2, 10)
