"""Examples in batches of one shape, for compiled loops."""

import numpy as np

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
