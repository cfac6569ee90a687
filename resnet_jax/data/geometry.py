"""Affine operations on one uint8 image, by Pillow's definitions; traced, and mapped over a batch.

A matrix [[a, b, c], [d, e, f]] says where the result looks: its pixel with centre (x, y) shows the
image at (a x + b y + c, d x + e y + f), in pixels from the top left corner.
"""

import jax
import jax.numpy as jnp


def identity() -> jax.Array:
    """The matrix that changes nothing, float32[2, 3]."""
    return jnp.eye(2, 3)


def shear_x(slope: jax.Array) -> jax.Array:
    """Rows move by `slope` times their distance from the upper edge."""
    return identity().at[0, 1].set(slope)


def shear_y(slope: jax.Array) -> jax.Array:
    """Columns move by `slope` times their distance from the left edge."""
    return identity().at[1, 0].set(slope)


def translate_x(pixels: jax.Array) -> jax.Array:
    """Move to the left."""
    return identity().at[0, 2].set(pixels)


def translate_y(pixels: jax.Array) -> jax.Array:
    """Move up."""
    return identity().at[1, 2].set(pixels)


def rotate(degrees: jax.Array, height: int, width: int) -> jax.Array:
    """Turn anticlockwise about the centre."""
    cos, sin = jnp.cos(jnp.deg2rad(degrees)), jnp.sin(jnp.deg2rad(degrees))
    x, y = width / 2, height / 2
    return jnp.array([[cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y]])


def resample(image: jax.Array, matrix: jax.Array, fill: jax.Array) -> jax.Array:
    """Move the pixels of an image, by bilinear interpolation.

    Args:
        image: uint8[height, width, channels].
        matrix: float32[2, 3], see above.
        fill: uint8[channels], of pixels that look past the edge.
    """
    height, width, channels = image.shape
    rows, columns = jnp.arange(height)[:, None] + 0.5, jnp.arange(width)[None, :] + 0.5
    x = matrix[0, 0] * columns + matrix[0, 1] * rows + matrix[0, 2]
    y = matrix[1, 0] * columns + matrix[1, 1] * rows + matrix[1, 2]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    left, top = jnp.floor(x - 0.5), jnp.floor(y - 0.5)
    right_share, bottom_share = (x - 0.5 - left)[..., None], (y - 0.5 - top)[..., None]
    pixels = image.reshape(-1, channels)

    def row_of_two(row: jax.Array) -> jax.Array:
        start = jnp.clip(row, 0, height - 1).astype(jnp.int32) * width
        first = pixels[start + jnp.clip(left, 0, width - 1).astype(jnp.int32)]
        second = pixels[start + jnp.clip(left + 1, 0, width - 1).astype(jnp.int32)]
        first, second = first.astype(jnp.float32), second.astype(jnp.float32)
        return first + right_share * (second - first)

    upper, lower = row_of_two(top), row_of_two(top + 1)
    value = jnp.round(upper + bottom_share * (lower - upper)).astype(jnp.uint8)
    return jnp.where(inside[..., None], value, fill)
