"""Losses of training, one number an example; evaluation always reports the plain cross-entropy.

Labels may be mixed (`data/mixing.py`): then the batch has `other_label` and `weight`, its share.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax

from resnet_jax.config import TrainConfig
from resnet_jax.errors import UserError, choose
from resnet_jax.training.hyperparameters import is_absent

Batch = dict[str, jax.Array]
Loss = Callable[[jax.Array, Batch], jax.Array]
Smoothing = float | jax.Array | None


def cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: Smoothing = None) -> jax.Array:
    """Cross-entropy of each example (label smoothing: Szegedy et al. 2016, §7).

    Args:
        logits: float[batch, classes].
        labels: int32[batch].
        smoothing: share of the target that is spread evenly over all classes; None: none of it.

    Returns:
        float[batch].
    """
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    if smoothing is None:
        return losses
    uniform = -jax.nn.log_softmax(logits).mean(-1)
    return (1 - smoothing) * losses + smoothing * uniform


def or_nan(losses: jax.Array, logits: jax.Array) -> jax.Array:
    """The losses, NaN where a logit is not finite: an infinite one may leave a loss finite.

    Args:
        losses: float[batch].
        logits: float[batch, classes].
    """
    return jnp.where(jnp.isfinite(logits).all(-1), losses, jnp.nan)


def softmax_loss(logits: jax.Array, batch: Batch, smoothing: Smoothing = None) -> jax.Array:
    """`cross_entropy` with the labels of a batch, which may be mixed: float[batch]."""
    losses = cross_entropy(logits, batch["label"], smoothing)
    if "weight" not in batch:
        return losses
    others = cross_entropy(logits, batch["other_label"], smoothing)
    return losses + batch["weight"] * (others - losses)


def targets(batch: Batch, num_classes: int, smoothing: Smoothing = None) -> jax.Array:
    """The target distribution of each example, float32[batch, classes]."""
    target = jax.nn.one_hot(batch["label"], num_classes)
    if "weight" in batch:
        other = jax.nn.one_hot(batch["other_label"], num_classes)
        target = target + batch["weight"][:, None] * (other - target)
    return target if smoothing is None else (1 - smoothing) * target + smoothing / num_classes


def sigmoid_loss(
    logits: jax.Array,
    batch: Batch,
    smoothing: Smoothing = None,
    threshold: float | None = None,
) -> jax.Array:
    """Binary cross-entropy of each class, averaged over classes (Wightman et al. 2021, §3).

    Args:
        logits: float[batch, classes].
        batch: labels, which may be mixed.
        smoothing: as of `cross_entropy`.
        threshold: targets above it become 1 and all others 0; None: they stay shares.

    Returns:
        float[batch].
    """
    target = targets(batch, logits.shape[-1], smoothing)
    if threshold is not None:
        target = (target > threshold).astype(logits.dtype)
    return optax.sigmoid_binary_cross_entropy(logits, target).mean(-1)


def make_loss(train: TrainConfig) -> Loss:
    """The loss of a config's `train` section; `label_smoothing` may be traced.

    Raises:
        UserError: no such loss, or a threshold that it has not.
    """
    absent = is_absent("train.label_smoothing", train.label_smoothing)
    smoothing = None if absent else train.label_smoothing
    losses: dict[str, Loss] = {
        "cross_entropy": partial(softmax_loss, smoothing=smoothing),
        "binary_cross_entropy": partial(
            sigmoid_loss, smoothing=smoothing, threshold=train.target_threshold
        ),
    }
    loss = choose("train.loss", train.loss, losses)
    if train.target_threshold is not None and train.loss != "binary_cross_entropy":
        raise UserError(
            "train.target_threshold",
            train.target_threshold,
            f"is not for {train.loss}",
            "set train.loss to 'binary_cross_entropy'",
        )
    return loss
