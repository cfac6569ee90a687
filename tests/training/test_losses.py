"""Losses against PyTorch's on dense targets made by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.config import TrainConfig
from resnet_jax.errors import UserError
from resnet_jax.training.hyperparameters import Hyperparameters
from resnet_jax.training.losses import make_loss

CLASSES = 7


def mixed_batch(size=12):
    rng = np.random.default_rng(0)
    batch = {
        "label": rng.integers(0, CLASSES, size).astype(np.int32),
        "other_label": rng.integers(0, CLASSES, size).astype(np.int32),
        "weight": rng.uniform(0, 1, size).astype(np.float32),
    }
    # No share and the whole share of the other, and two equal labels.
    batch["weight"][:2], batch["other_label"][2] = (0, 1), batch["label"][2]
    return 4 * rng.standard_normal((size, CLASSES)).astype(np.float32), batch


def dense(batch, smoothing):
    """Mixtures of one-hot labels, then smoothed; one example after the other."""
    target = np.zeros((len(batch["label"]), CLASSES))
    for row, label in enumerate(batch["label"]):
        share = batch["weight"][row] if "weight" in batch else 0.0
        target[row, label] += 1 - share
        if share:
            target[row, batch["other_label"][row]] += share
    return (1 - smoothing) * target + smoothing / CLASSES


def loss_of(name, smoothing=0.0, threshold=None):
    train = TrainConfig(loss=name, label_smoothing=smoothing, target_threshold=threshold)
    scalars = {"train.label_smoothing": smoothing} if smoothing else {}
    return partial(make_loss(train), numbers=Hyperparameters(scalars=scalars))


@pytest.mark.parametrize("mixes", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("threshold", [None, 0.2])
def test_losses_are_torchs_on_dense_targets(mixes, smoothing, threshold):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    logits, batch = mixed_batch()
    if not mixes:
        batch = {"label": batch["label"]}
    target = dense(batch, smoothing)
    theirs = torch.from_numpy(logits).double()
    softmax = functional.cross_entropy(theirs, torch.from_numpy(target), reduction="none")
    actual = loss_of("cross_entropy", smoothing)(jnp.asarray(logits), batch)
    np.testing.assert_allclose(actual, softmax, rtol=2e-5)
    if threshold is not None:
        target = (target > threshold).astype(float)
    sigmoid = functional.binary_cross_entropy_with_logits(
        theirs, torch.from_numpy(target), reduction="none"
    ).mean(-1)
    actual = loss_of("binary_cross_entropy", smoothing, threshold)(jnp.asarray(logits), batch)
    np.testing.assert_allclose(actual, sigmoid, rtol=2e-5)


def test_binary_cross_entropy_is_that_of_a_sigmoid_for_each_class():
    logits, batch = mixed_batch()
    target, probability = dense(batch, 0.1), 1 / (1 + np.exp(-logits.astype(float)))
    expected = -(target * np.log(probability) + (1 - target) * np.log(1 - probability)).mean(-1)
    actual = loss_of("binary_cross_entropy", 0.1)(jnp.asarray(logits), batch)
    np.testing.assert_allclose(actual, expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["cross_entropy", "binary_cross_entropy"])
def test_gradient_is_finite_for_extreme_logits(name):
    logits = jnp.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]])
    batch = {"label": jnp.array([1, 0])}
    gradient = jax.grad(lambda x: loss_of(name, 0.1)(x, batch).sum())(logits)
    assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize(
    ("name", "threshold", "words"),
    [
        ("cross_entrpy", None, "did you mean 'cross_entropy'"),
        ("cross_entropy", 0.2, "set train.loss to 'binary_cross_entropy'"),
    ],
)
def test_wrong_choice_is_one_clear_line(name, threshold, words):
    with pytest.raises(UserError, match=words):
        loss_of(name, threshold=threshold)
