"""Our networks against the same networks in plain PyTorch: logits, gradients, running statistics."""

import math
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from flax import nnx

from resnet_jax import models

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.torch_resnet import copy_weights, torch_arrays, torch_resnet  # noqa: E402

# name → image size, and fields of `models.resnet`
NETS = {
    "resnet20_A": (32, {"family": "cifar", "depth": 20, "shortcut": "A"}),
    "resnet20_B": (32, {"family": "cifar", "depth": 20, "shortcut": "B"}),
    "resnet20_C": (32, {"family": "cifar", "depth": 20, "shortcut": "C"}),
    "plain20": (32, {"family": "cifar", "depth": 20, "shortcut": "none"}),
    "wrn16_2": (16, {"family": "wide", "depth": 16, "width_factor": 2}),
    "resnet18": (64, {"family": "imagenet", "depth": 18, "shortcut": "B"}),
    "resnet50": (64, {"family": "imagenet", "depth": 50, "shortcut": "B"}),
    # As resnext50_32x4d and seresnet50 in one.
    "seresnext50": (
        32,
        {"family": "imagenet", "depth": 50}
        | {"groups": 32, "bottleneck_width": 2, "squeeze_reduction": 16},
    ),
}
NUM_CLASSES = 7
BATCH_SIZE = 4


def draw(path, leaf, rng: np.random.Generator, dtype: str) -> np.ndarray:
    """A value for one array of a network, unlike what it is initialised with."""
    name, shape = path[-1].key, leaf.shape
    if name == "kernel":
        values = rng.normal(0, math.sqrt(2 / math.prod(shape[:-1])), shape)
    elif name in ("scale", "var"):
        values = rng.uniform(0.5, 1.5, shape)
    else:
        values = rng.normal(0, 0.2, shape)
    return values.astype(dtype)


def make_pair(name: str, dtype: str, convolution: str = "native"):
    """Our network and torch's with equal weights and statistics, and a batch.

    Returns:
        ours, theirs, images [batch, size, size, 3], labels [batch].
    """
    size, fields = NETS[name]
    rng = np.random.default_rng(0)
    options = {"num_classes": NUM_CLASSES, "dtype": dtype, "convolution": convolution}

    def build():
        return models.resnet(**fields, rngs=nnx.Rngs(0), **options)

    graph, state = nnx.split(nnx.eval_shape(build))
    arrays = jax.tree.map_with_path(
        lambda path, leaf: draw(path, leaf, rng, dtype), nnx.to_pure_dict(state)
    )
    ours = nnx.merge(graph, arrays)
    theirs = torch_resnet(**fields, num_classes=NUM_CLASSES).to(getattr(torch, dtype))
    copy_weights(ours, theirs)
    images = rng.normal(size=(BATCH_SIZE, size, size, 3)).astype(dtype)
    return ours, theirs, images, rng.integers(0, NUM_CLASSES, BATCH_SIZE)


def torch_images(images: np.ndarray) -> "torch.Tensor":
    """NHWC to NCHW."""
    return torch.from_numpy(images.transpose(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("name", "dtype", "tolerance"),
    [(name, "float32", 1e-4) for name in NETS if name != "seresnext50"]
    # Its gates make rounding 10⁶ times larger, in torch's logits as in ours.
    + [pytest.param("seresnext50", "float64", 1e-8, marks=pytest.mark.slow)],
)
def test_logits_agree_in_eval_mode(name, dtype, tolerance):
    with jax.enable_x64(dtype == "float64"):
        ours, theirs, images, _ = make_pair(name, dtype)
        ours.eval()
        graph, state = nnx.split(ours)
        logits = jax.jit(lambda state, x: nnx.merge(graph, state)(x))(state, images)
    with torch.inference_mode():
        expected = theirs.eval()(torch_images(images)).numpy()
    assert np.abs(logits - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize(
    ("name", "convolution"),
    [
        pytest.param("resnet20_A", "native", marks=pytest.mark.slow),
        ("resnet20_A", "loop_safe"),
        pytest.param("wrn16_2", "native", marks=pytest.mark.slow),
        ("resnet50", "native"),
        pytest.param("resnet50", "loop_safe", marks=pytest.mark.slow),
    ],
)
def test_gradients_and_running_statistics_agree_in_train_mode(name, convolution):
    """In float64, as float32 gradients through batch norms of few values differ by rounding."""
    with jax.enable_x64(True):
        ours, theirs, images, labels = make_pair(name, "float64", convolution)
        ours.train()
        graph, params, batch_stats = nnx.split(ours, nnx.Param, nnx.BatchStat)

        def loss(params, batch_stats):
            model = nnx.merge(graph, params, batch_stats)
            losses = optax.softmax_cross_entropy_with_integer_labels(model(images), labels)
            return losses.mean(), nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))

        gradient = jax.jit(jax.grad(loss, has_aux=True))
        gradients, new_stats = gradient(nnx.to_pure_dict(params), nnx.to_pure_dict(batch_stats))

    logits = theirs.train()(torch_images(images))
    torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels)).backward()

    expected = {name: p.grad.numpy() for name, p in theirs.named_parameters()}
    assert_close(torch_arrays(gradients), expected, tolerance=1e-8)
    expected = {n: b.numpy() for n, b in theirs.named_buffers() if "running" in n}
    assert_close(torch_arrays(new_stats), expected, tolerance=1e-8)


def assert_close(
    actual: dict[str, np.ndarray], expected: dict[str, np.ndarray], tolerance: float
) -> None:
    """Same names, and no entry off by more than `tolerance` times its array's largest."""
    assert actual.keys() == expected.keys()
    errors = {n: np.abs(actual[n] - e).max() / np.abs(e).max() for n, e in expected.items()}
    assert max(errors.values()) <= tolerance, max(errors.items(), key=lambda item: item[1])


@pytest.mark.parametrize(
    ("ours", "theirs"), [("resnet20_A", "resnet20_B"), ("resnet20_B", "plain20")]
)
def test_copying_leaves_no_array_over(ours, theirs):
    model, other = make_pair(ours, "float32")[0], make_pair(theirs, "float32")[1]
    with pytest.raises(RuntimeError, match=r"layer2\.0\.downsample"):
        copy_weights(model, other)
