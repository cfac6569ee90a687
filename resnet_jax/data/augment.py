"""Augmentation: keyed, pure image functions that run inside the compiled step.

Each takes a key and one normalised image and is mapped over a batch by `augment`; zero is the mean
colour. Every example has its own key, so the result does not depend on how a batch is sharded.
"""

import math
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


def erase(key: jax.Array, image: jax.Array, probability: float, fill: str) -> jax.Array:
    """Fill a random box (Zhong et al. 2020, "Random Erasing Data Augmentation", §3).

    It has 2% to 33% of the area and an aspect ratio from 0.3 to 1 / 0.3; where ten draws do not fit
    into the image, nothing is erased.

    Args:
        key: of this image.
        image: float[height, width, channels].
        probability: that there is a box.
        fill: `mean`: zeros; `noise`: a normal variate for each number.
    """
    height, width, _ = image.shape
    on_key, area_key, aspect_key, place_key, noise_key = jax.random.split(key, 5)
    area = height * width * jax.random.uniform(area_key, (10,), minval=0.02, maxval=0.33)
    limit = -math.log(0.3)
    aspect = jnp.exp(jax.random.uniform(aspect_key, (10,), minval=-limit, maxval=limit))
    rows = jnp.round(jnp.sqrt(area * aspect)).astype(jnp.int32)
    columns = jnp.round(jnp.sqrt(area / aspect)).astype(jnp.int32)
    fits = (rows < height) & (columns < width)
    first = jnp.argmax(fits)
    erased = jax.random.bernoulli(on_key, probability) & fits[first]
    size = jnp.stack([rows[first], columns[first]])
    room = jnp.maximum(jnp.array([height, width]) - size + 1, 1)
    start = jax.random.randint(place_key, (2,), 0, room)
    row = jnp.arange(height)[:, None] - start[0]
    column = jnp.arange(width)[None, :] - start[1]
    inside = (row >= 0) & (row < size[0]) & (column >= 0) & (column < size[1])
    return jnp.where((inside & erased)[..., None], FILLS[fill](noise_key, image), image)


def _zeros(key: jax.Array, image: jax.Array) -> jax.Array:
    return jnp.zeros_like(image)


def _noise(key: jax.Array, image: jax.Array) -> jax.Array:
    return jax.random.normal(key, image.shape, image.dtype)


FILLS = {"mean": _zeros, "noise": _noise}


@dataclass(frozen=True)
class Augmentation:
    """Which augmentations, in this order: pad and crop, flip, cutout, random erasing.

    Attributes:
        pad: pixels around the image before the crop; 0: none.
        flip: mirror half of the images.
        cutout: side of the square in pixels; 0: none.
        erase: probability of random erasing; 0: none.
        erase_fill: a key of `FILLS`.
    """

    pad: int = 0
    flip: bool = False
    cutout: int = 0
    erase: float = 0.0
    erase_fill: str = "mean"

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
        if self.erase:
            # Not a fourth part of the split, so that the other three keys stay what they were.
            image = erase(jax.random.fold_in(key, 3), image, self.erase, self.erase_fill)
        return image
