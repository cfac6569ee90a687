"""Examples in batches of one shape, for compiled loops."""

import jax
import jax.numpy as jnp
import numpy as np

from resnet_jax.training.losses import cross_entropy, or_nan

BATCH_SIZE = 100
NO_LABEL = -1


def in_batches(
    images: np.ndarray, labels: np.ndarray, batch_size: int = BATCH_SIZE
) -> tuple[np.ndarray, np.ndarray]:
    """Split examples into equal batches.

    Args:
        images: float32[examples, height, width, channels].
        labels: int32[examples].
        batch_size: at most.

    Returns:
        images: [batches, batch_size, height, width, channels]; labels: [batches, batch_size], where what
        fills the last batch has `NO_LABEL`.
    """
    size = min(batch_size, len(labels))
    missing = -len(labels) % size
    images = np.concatenate([images, np.zeros((missing, *images.shape[1:]), images.dtype)])
    labels = np.concatenate([labels, np.full(missing, NO_LABEL, labels.dtype)])
    return images.reshape(-1, size, *images.shape[1:]), labels.reshape(-1, size)


def summed_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross-entropy in nats, summed over the examples of a batch; NaN where a logit is not finite.

    Args:
        logits: float[batch, classes].
        labels: int32[batch], negative for padding.
    """
    losses = or_nan(cross_entropy(logits, jnp.maximum(labels, 0)), logits)
    return jnp.where(labels >= 0, losses, 0).sum()


def summed_correct(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """How many examples of a batch are classified correctly; NaN where a logit is not finite.

    Args:
        logits: float[batch, classes].
        labels: int32[batch], negative for padding.

    Returns:
        float32 scalar.
    """
    correct = or_nan((logits.argmax(-1) == labels).astype(jnp.float32), logits)
    return jnp.where(labels >= 0, correct, 0).sum()
