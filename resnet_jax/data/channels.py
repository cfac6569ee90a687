"""Mean and standard deviation of the channels of images, by which they are normalised."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from resnet_jax.data.decoding import DamagedImageError
from resnet_jax.data.examples import Examples
from resnet_jax.data.images import Geometry, sized

# A channel that is constant in training, or nearly, teaches the network nothing. Divided by its own
# standard deviation, the noise of other images would be thousands. So a channel is divided by at least
# this share of the largest standard deviation, and by at least 2.55 levels of 255.
LEAST_SHARE = 0.1
LEAST = 0.01


def channel_statistics(images: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel of uint8[height, width, channels] images.

    Integer histograms make the result exact and independent of the order.

    Returns:
        mean, std: float64[channels], pixel values scaled to 0 to 1; std has a floor, see `LEAST`.
    """
    return mean_and_deviation(histogram(images))


def histogram(images: Iterable[np.ndarray]) -> np.ndarray:
    """How many pixels of each channel have each value: int64[channels, 256]."""
    counts = (
        [np.bincount(channel.ravel(), minlength=256) for channel in np.moveaxis(image, -1, 0)]
        for image in images
    )
    return np.asarray(sum(map(np.array, counts)))


def histogram_of(
    examples: Examples, indices: Sequence[int], geometry: Geometry, num_threads: int
) -> np.ndarray:
    """`histogram` of some images under a geometry, without those that cannot be read."""

    def of_example(index: int) -> np.ndarray:
        try:
            return histogram([sized(examples[index][0], geometry)])
        except DamagedImageError:
            return np.zeros((1, 256), np.int64)

    with ThreadPoolExecutor(num_threads) as pool:
        return np.asarray(sum(pool.map(of_example, indices)))


def mean_and_deviation(histogram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation by int64[channels, 256]; the latter has a floor, see `LEAST`."""
    weights = histogram / histogram.sum(-1, keepdims=True)
    values = np.arange(256) / 255
    mean = weights @ values
    std = np.sqrt(np.sum(weights * np.square(values - mean[:, None]), -1))
    return mean, np.maximum(std, max(LEAST, LEAST_SHARE * std.max()))
