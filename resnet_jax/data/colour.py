"""Colour operations on one uint8 image, by Pillow's definitions; traced, and mapped over a batch.

An operation is one of two forms: a blend of the image with a degenerate one (`blend`), or a table
of the 256 values of each channel (`look_up`). Grey images have one channel.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

VALUES = np.arange(256)[:, None]


def grey(image: jax.Array) -> jax.Array:
    """Luma (ITU-R 601-2) of uint8[height, width, channels] as int32[height, width, 1]."""
    channels = image.astype(jnp.int32)
    if image.shape[-1] == 1:
        return channels
    red, green, blue = (channels[..., i : i + 1] for i in range(3))
    return (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16


def mean_grey(image: jax.Array) -> jax.Array:
    """Mean luma of an image, rounded to an int32 scalar."""
    return jnp.floor(grey(image).mean(dtype=jnp.float32) + 0.5).astype(jnp.int32)


def smooth(image: jax.Array) -> jax.Array:
    """Mean of 3×3 pixels, the middle one five times; int32, and the border as it is."""
    height, width, _ = image.shape
    x = image.astype(jnp.int32)
    padded = jnp.pad(x, ((1, 1), (1, 1), (0, 0)))
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    total = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * x
    row, column = jnp.arange(height)[:, None], jnp.arange(width)[None, :]
    inner = (row > 0) & (row < height - 1) & (column > 0) & (column < width - 1)
    return jnp.where(inner[..., None], (2 * total + 13) // 26, x)


def blend(image: jax.Array, degenerate: jax.Array, factor: jax.Array) -> jax.Array:
    """`degenerate` + `factor` * (`image` - `degenerate`), cut to 0 to 255.

    Args:
        image: uint8[height, width, channels].
        degenerate: int32, of a shape that broadcasts: 0 for brightness, `mean_grey` for contrast,
            `grey` for saturation, `smooth` for sharpness.
        factor: float32 scalar; 1 leaves the image as it is.
    """
    low = degenerate.astype(jnp.float32)
    return jnp.clip(low + factor * (image.astype(jnp.float32) - low), 0, 255).astype(jnp.uint8)


def histogram(image: jax.Array) -> jax.Array:
    """How often each value occurs in each channel, int32[256, channels]."""
    counts = jnp.zeros(256 * image.shape[-1], jnp.int32)
    counts = counts.at[_entries(image)].add(1, mode="promise_in_bounds")
    return counts.reshape(256, -1)


def look_up(image: jax.Array, table: jax.Array) -> jax.Array:
    """Replace each value v of channel c by `table[v, c]`; table: int32[256, channels]."""
    entries = table.astype(jnp.uint8).reshape(-1)
    return entries.at[_entries(image)].get(mode="promise_in_bounds").reshape(image.shape)


def _entries(image: jax.Array) -> jax.Array:
    """Where the entries of all values of an image stand in a flat table, int32[…]."""
    channels = image.shape[-1]
    return (image.astype(jnp.int32) * channels + jnp.arange(channels)).reshape(-1)


def autocontrast(counts: jax.Array) -> jax.Array:
    """The table that stretches each channel to 0 to 255; counts: of `histogram`."""
    low = jnp.argmax(counts > 0, axis=0)
    high = 255 - jnp.argmax(counts[::-1] > 0, axis=0)
    stretched = (VALUES - low) * 255 // jnp.maximum(high - low, 1)
    return jnp.where(high > low, jnp.clip(stretched, 0, 255), VALUES)


def equalize(counts: jax.Array) -> jax.Array:
    """The table that makes the values of each channel equally frequent; counts: of `histogram`."""
    highest = jnp.take_along_axis(
        counts, 255 - jnp.argmax(counts[::-1] > 0, axis=0, keepdims=True), axis=0
    )[0]
    step = (counts.sum(0) - highest) // 255
    below = jnp.cumsum(counts, axis=0) - counts
    table = (step // 2 + below) // jnp.maximum(step, 1)
    return jnp.where(step > 0, jnp.clip(table, 0, 255), VALUES)


def invert() -> jax.Array:
    """The table of 255 - v, int32[256, 1]."""
    return jnp.asarray(255 - VALUES)


def posterize(bits: jax.Array) -> jax.Array:
    """The table that keeps the highest `bits` (0 to 8) of each value, int32[256, 1]."""
    dropped = 8 - bits.astype(jnp.int32)
    return (jnp.asarray(VALUES) >> dropped) << dropped


def solarize(threshold: jax.Array) -> jax.Array:
    """The table that inverts values from `threshold` on, int32[256, 1]."""
    return jnp.where(threshold > VALUES, VALUES, 255 - VALUES)


def solarize_add(addend: jax.Array) -> jax.Array:
    """The table that adds to values below 128, int32[256, 1]."""
    return jnp.where(VALUES < 128, jnp.minimum(VALUES + addend.astype(jnp.int32), 255), VALUES)


def shift_hue(image: jax.Array, turns: jax.Array) -> jax.Array:
    """Turn the hue of uint8[height, width, 3] by a share of the colour circle; grey has none."""
    if image.shape[-1] == 1:
        return image
    rgb = image.astype(jnp.float32)
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    value = rgb.max(-1)
    chroma = value - rgb.min(-1)
    safe = jnp.where(chroma > 0, chroma, 1)
    sixth = jnp.where(
        value == red,
        (green - blue) / safe,
        jnp.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    offsets = jnp.array([5.0, 3.0, 1.0])
    place = offsets + (sixth + 6 * turns)[..., None]
    place -= 6 * jnp.floor(place / 6)
    share = jnp.clip(jnp.minimum(place, 4 - place), 0, 1)
    return jnp.round(value[..., None] - chroma[..., None] * share).astype(jnp.uint8)


@dataclass(frozen=True)
class ColourJitter:
    """Random brightness, contrast, saturation and hue, in random order (torchvision's `ColorJitter`).

    Attributes:
        brightness, contrast, saturation: each factor is uniform from 1 - value (at least 0) to
            1 + value; 0: none.
        hue: the turn is uniform from -value to value, in turns of the colour circle; 0: none.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __call__(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """Jitter uint8[height, width, channels] by the key of this image."""
        order_key, factor_key, hue_key = jax.random.split(key, 3)
        spread = np.array([self.brightness, self.contrast, self.saturation], np.float32)
        draws = jax.random.uniform(factor_key, (3,))
        lowest = np.maximum(1 - spread, 0)
        factors = jnp.append(lowest + draws * (1 + spread - lowest), 1.0)
        turns = jax.random.uniform(hue_key, (), minval=-self.hue, maxval=self.hue)

        def one(image: jax.Array, which: jax.Array) -> tuple[jax.Array, None]:
            degenerate = jnp.where(which == 2, grey(image), 0)
            degenerate = jnp.where(which == 1, mean_grey(image), degenerate)
            changed = blend(image, degenerate, factors[which])
            if self.hue:
                changed = jnp.where(which == 3, shift_hue(image, turns), changed)
            return changed, None

        return jax.lax.scan(one, image, jax.random.permutation(order_key, 4))[0]


# Principal components of the pixels of ImageNet's training images, scaled to 0 to 1: a column each.
_COMPONENTS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]], np.float32
)
_EIGENVALUES = np.array([0.2175, 0.0188, 0.0045], np.float32)


def pca_noise(key: jax.Array, deviation: float) -> jax.Array:
    """A random shift of all pixels along ImageNet's principal components (Krizhevsky 2012, §4.1).

    Args:
        key: of this image.
        deviation: of the normal coefficients.

    Returns:
        float32[3], for pixel values scaled to 0 to 1.
    """
    return jnp.asarray(_COMPONENTS) @ (_EIGENVALUES * deviation * jax.random.normal(key, (3,)))
