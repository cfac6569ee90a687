"""Augmentation: keyed, pure image functions that run inside the compiled step.

Each takes a key and one normalised image and is mapped over a batch by `augment`; zero is the mean
colour. Every example has its own key, so the result does not depend on how a batch is sharded.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp


def pad_and_crop(key: jax.Array, image: jax.Array, pad: int) -> jax.Array:
    """Pad with zeros on each side, then cut a window of the original size (He 2015, §4.2).

    Args:
        key: of this image.
        image: float[height, width, channels].
        pad: pixels on each side.
    """
    padded = jnp.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    top, left = jax.random.randint(key, (2,), 0, 2 * pad + 1)
    return jax.lax.dynamic_slice(padded, (top, left, 0), image.shape)


def flip(key: jax.Array, image: jax.Array) -> jax.Array:
    """Mirror float[height, width, channels] left to right with probability 1/2."""
    return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)


def cutout(key: jax.Array, image: jax.Array, side: int) -> jax.Array:
    """Set a square to zero (DeVries & Taylor 2017, §3.1).

    Its centre is uniform over the image, so a part of the square may fall outside.

    Args:
        key: of this image.
        image: float[height, width, channels].
        side: of the square, pixels.
    """
    height, width, _ = image.shape
    row_key, column_key = jax.random.split(key)
    top = jax.random.randint(row_key, (), 0, height) - side // 2
    left = jax.random.randint(column_key, (), 0, width) - side // 2
    rows, columns = jnp.arange(height)[:, None], jnp.arange(width)[None, :]
    inside = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
    return jnp.where(inside[..., None], 0.0, image)


@dataclass(frozen=True)
class Augmentation:
    """Which augmentations, in this order: pad and crop, flip, cutout.

    Attributes:
        pad: pixels around the image before the crop; 0: none.
        flip: mirror half of the images.
        cutout: side of the square in pixels; 0: none.
    """

    pad: int = 0
    flip: bool = False
    cutout: int = 0

    def __call__(self, keys: jax.Array, images: jax.Array) -> jax.Array:
        """Augment a batch.

        Args:
            keys: one key an image, [batch].
            images: float[batch, height, width, channels], normalised.
        """
        return jax.vmap(self._one)(keys, images)

    def _one(self, key: jax.Array, image: jax.Array) -> jax.Array:
        crop_key, flip_key, cutout_key = jax.random.split(key, 3)
        if self.pad:
            image = pad_and_crop(crop_key, image, self.pad)
        if self.flip:
            image = flip(flip_key, image)
        if self.cutout:
            image = cutout(cutout_key, image, self.cutout)
        return image
