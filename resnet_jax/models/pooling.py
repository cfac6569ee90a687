"""Pooling that shortcuts, branches and stems share. All: float[batch, height, width, channels]."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax


def max_pool(x: jax.Array, stride: int = 2) -> jax.Array:
    """3×3 maximum, padded by zeros as in the networks of BiT; the same as without them after a ReLU."""
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return nnx.max_pool(padded, (3, 3), strides=(stride, stride))


def average_pool(x: jax.Array, stride: int) -> jax.Array:
    """Mean over windows of stride × stride; the last ones of an odd side are smaller."""
    if stride == 1:
        return x
    height, width = x.shape[1:3]
    padding = ((0, -height % stride), (0, -width % stride))
    window = (stride, stride)
    return nnx.avg_pool(x, window, window, padding, count_include_pad=False)


def blur_pool(x: jax.Array, stride: int) -> jax.Array:
    """Low-pass filter [1 2 1]ᵀ[1 2 1] / 16, then every `stride`-th pixel (Zhang 2019, §3).

    Edges are reflected, so both sides must be at least 2.
    """
    if stride == 1:
        return x
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    for axis in (1, 2):
        size = x.shape[axis] - 2
        taps = [lax.slice_in_dim(x, i, i + size, stride, axis) for i in range(3)]
        x = (taps[0] + taps[2]) / 4 + taps[1] / 2
    return x
