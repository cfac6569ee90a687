"""What happens to a batch of uint8 images inside the compiled step."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from resnet_jax import random_streams
from resnet_jax.data.augment import Augmentation

Batch = dict[str, jax.Array]


@dataclass(frozen=True)
class Preprocessing:
    """What happens to uint8 images inside the compiled step.

    Attributes:
        mean, std: per channel, pixel values scaled to 0 to 1.
        augmentation: of training images.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Augmentation

    def normalise(self, images: jax.Array) -> jax.Array:
        """uint8[batch, height, width, channels] → float32, mean 0 and deviation 1 a channel."""
        mean, std = 255 * np.array(self.mean, np.float32), 255 * np.array(self.std, np.float32)
        return (images.astype(jnp.float32) - mean) / std

    def train_batch(
        self,
        images: jax.Array,
        labels: jax.Array,
        key: jax.Array,
        step: jax.Array,
        batch_size: int,
        positions: jax.Array,
    ) -> Batch:
        """Normalise and augment (a device's share of) the batch of a step.

        Args:
            images: uint8[share, height, width, channels].
            labels: int32[share].
            key: of the run (`random_streams.run_key`).
            step: int32 scalar.
            batch_size: of the whole batch.
            positions: int32[share], place of each example in the whole batch.
        """

        def keys(stream: int) -> jax.Array:
            of_step = random_streams.stream_key(key, stream, step)
            return jax.random.split(of_step, batch_size)[positions]

        return {
            "image": self.augmentation(keys(random_streams.AUGMENT), self.normalise(images)),
            "label": labels,
            "mask": jnp.ones(labels.shape, bool),
            "key": keys(random_streams.DROPOUT),
        }


def make_preprocessing(
    config: ConfigDict, mean: tuple[float, ...], std: tuple[float, ...]
) -> Preprocessing:
    """The preprocessing of a config.

    Args:
        config: the whole config.
        mean, std: of the training images, per channel.
    """
    data = config.data
    return Preprocessing(mean, std, Augmentation(data.pad, data.flip, data.cutout))
