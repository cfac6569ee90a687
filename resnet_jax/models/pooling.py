"""Pooling that shortcuts, branches and stems share. All: float[batch, height, width, channels]."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax


def max_pool(x: jax.Array, stride: int = 2, zero_padding: bool = False) -> jax.Array:
    """3×3 maximum; beyond the edges there is nothing, or zeros as in the networks of BiT."""
    window, strides = (3, 3), (stride, stride)
    if not zero_padding:
        return nnx.max_pool(x, window, strides, ((1, 1), (1, 1)))
    return nnx.max_pool(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), window, strides)


def average_pool(x: jax.Array, stride: int) -> jax.Array:
    """Mean over windows of stride × stride; the last ones of an odd side are smaller."""
    if stride == 1:
        return x
    height, width = x.shape[1:3]
    padding = ((0, -height % stride), (0, -width % stride))
    window = (stride, stride)
    return nnx.avg_pool(x, window, window, padding, count_include_pad=False)


def blur_pool(x: jax.Array, stride: int) -> jax.Array:
    """Low-pass filter [1 2 1]ᵀ[1 2 1] / 16, edges reflected, then every `stride`-th pixel (Zhang 2019, §3)."""
    if stride == 1:
        return x
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    for axis in (1, 2):
        size = x.shape[axis] - 2
        taps = [lax.slice_in_dim(x, i, i + size, stride, axis) for i in range(3)]
        x = (taps[0] + taps[2]) / 4 + taps[1] / 2
    return x
