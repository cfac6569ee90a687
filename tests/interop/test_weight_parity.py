"""Logits of torch's networks and ours are equal after the weights went over, in either direction."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from nets import small_net

from resnet_jax import models
from resnet_jax.interop import load_weights, save_weights

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).parents[2]))

import torch_models  # noqa: E402

from benchmarks.torch_resnet import torch_resnet  # noqa: E402

SIZES, WIDTHS, CLASSES = (2, 1), (8, 16), 7


def _transformers(kind: str, **fields):
    # Not needed, and one that does not fit torch would keep transformers from importing.
    sys.modules.setdefault("torchvision", None)
    transformers = pytest.importorskip("transformers")
    config, network = {
        "resnet": ("ResNetConfig", "ResNetForImageClassification"),
        "bit": ("BitConfig", "BitForImageClassification"),
    }[kind]
    made = getattr(transformers, config)(
        embedding_size=8, depths=list(SIZES), num_labels=CLASSES, **fields
    )
    return getattr(transformers, network)(made)


def _bottleneck_net(**options):
    return torch_models.BottleneckNet(SIZES, WIDTHS, CLASSES, **options)


IMAGENET = {"stem": "imagenet"}
BOTTLENECK = {"stem": "imagenet", "block": "bottleneck"}
PREACTIVATION = {"activation_order": "full_preactivation"}
# name → torch's network, ours, naming in which ours is saved (None: the default)
FAMILIES = {
    "cifar_A": (
        lambda: torch_resnet("cifar", 8, "A", CLASSES),
        {"stage_sizes": (1, 1, 1), "widths": (16, 32, 64), "shortcut": "A"},
        None,
    ),
    "transformers_basic": (
        lambda: _transformers("resnet", hidden_sizes=[8, 16], layer_type="basic"),
        IMAGENET,
        "transformers_resnet",
    ),
    "transformers_bottleneck": (
        lambda: _transformers("resnet", hidden_sizes=[32, 64]),
        BOTTLENECK,
        "transformers_resnet",
    ),
    "transformers_stride_in_1x1": (
        lambda: _transformers("resnet", hidden_sizes=[32, 64], downsample_in_bottleneck=True),
        BOTTLENECK | {"stride_in_1x1": True},
        "transformers_resnet",
    ),
    "transformers_bit": (
        lambda: _transformers("bit", hidden_sizes=[32, 64], num_groups=4),
        BOTTLENECK
        | PREACTIVATION
        | {"stem": "bit", "norm": "group", "norm_groups": 4, "weight_standardization": True},
        "transformers_bit",
    ),
    "bottleneck": (_bottleneck_net, BOTTLENECK, None),
    "resnext": (
        lambda: _bottleneck_net(groups=4, bottleneck_width=2),
        BOTTLENECK | {"groups": 4, "bottleneck_width": 2},
        None,
    ),
    "se": (lambda: _bottleneck_net(reduction=2), BOTTLENECK | {"squeeze_reduction": 2}, None),
    "resnet_d": (
        lambda: _bottleneck_net(deep=True, average=True),
        BOTTLENECK | {"stem": "deep", "shortcut": "D"},
        None,
    ),
    "preactivation": (
        lambda: torch_models.PreActivationNet(SIZES, WIDTHS, CLASSES),
        PREACTIVATION,
        None,
    ),
    "wide": (
        lambda: torch_models.WideNet(SIZES, (16, 32), CLASSES),
        PREACTIVATION | {"width_factor": 2},
        "wide_resnet",
    ),
}


def randomise(network, seed: int) -> None:
    """Random parameters and batch statistics."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        normal = torch.randn(value.shape, generator=generator)
        if value.ndim > 1:
            value.copy_(normal * (2 / value[0].numel()) ** 0.5)
        elif name.endswith(("weight", "running_var")):
            value.copy_(0.5 + torch.rand(value.shape, generator=generator))
        else:
            value.copy_(0.2 * normal)


def torch_logits(network, images: np.ndarray) -> np.ndarray:
    """Of images [batch, height, width, 3], in eval mode."""
    with torch.inference_mode():
        logits = network.eval()(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    return getattr(logits, "logits", logits).numpy()


def our_logits(model, images: np.ndarray) -> np.ndarray:
    model.eval()
    graph, state = nnx.split(model)
    return np.asarray(jax.jit(lambda state, x: nnx.merge(graph, state)(x))(state, images))


def assert_close(actual: np.ndarray, expected: np.ndarray) -> None:
    assert np.abs(actual - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_agree_in_both_directions(family, images, tmp_path):
    build, fields, naming = FAMILIES[family]
    theirs, copy = build(), build()
    randomise(theirs, seed=0)
    randomise(copy, seed=1)
    ours = small_net(**{"stage_sizes": SIZES, "widths": WIDTHS, **fields})

    load_weights(ours, theirs.state_dict())
    expected = torch_logits(theirs, images)
    assert_close(our_logits(ours, images), expected)

    save_weights(ours, tmp_path / "ours.safetensors", naming)
    safetensors_torch = pytest.importorskip("safetensors.torch")
    copy.load_state_dict(safetensors_torch.load_file(tmp_path / "ours.safetensors"), strict=True)
    assert np.array_equal(torch_logits(copy, images), expected)


@pytest.mark.parametrize("scan_blocks", [False, True])
def test_scanned_and_frozen_networks_agree_too(scan_blocks, images):
    theirs = torch_resnet("cifar", 20, "B", CLASSES)
    randomise(theirs, seed=0)
    fields = {"stage_sizes": (3, 3, 3), "widths": (16, 32, 64), "scan_blocks": scan_blocks}
    ours = small_net(**fields)
    models.freeze(ours, ["stem", "stage1"])
    load_weights(ours, theirs.state_dict())
    assert_close(our_logits(ours, images), torch_logits(theirs, images))
    kernel = ours.stem.conv.kernel
    assert isinstance(kernel, nnx.Param)
    assert not models.trainable((), kernel)
