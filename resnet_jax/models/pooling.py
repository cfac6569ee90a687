"""Pooling that shortcuts, branches and stems share. All: float[batch, height, width, channels]."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax


def max_pool(x: jax.Array, stride: int = 2, zero_padding: bool = False) -> jax.Array:
    """3×3 maximum; beyond the edges there is nothing, or zeros as in the networks of BiT.

    Of several largest pixels in a window the first one has the derivative.
    """
    if zero_padding:
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    padding = 0 if zero_padding else 1
    if jax.default_backend() != "cpu":
        return _native_max_pool(x, stride, padding)
    # XLA's CPU backend takes several times as long to compare in bfloat16.
    wide = x.astype(jnp.promote_types(jnp.float32, x.dtype))
    return _max_pool(wide, stride, padding).astype(x.dtype)


def _native_max_pool(x: jax.Array, stride: int, padding: int) -> jax.Array:
    return nnx.max_pool(x, (3, 3), (stride, stride), ((padding, padding), (padding, padding)))


# For the derivative XLA's CPU backend finds each maximum again by a reduction that carries indices,
# and scatters; to compare slices takes a third of the time.
@partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _max_pool(x: jax.Array, stride: int, padding: int) -> jax.Array:
    return _native_max_pool(x, stride, padding)


@_max_pool.defjvp
def _max_pool_derivative(
    stride: int, padding: int, primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (x,), (tangent,) = primals, tangents
    maxima = _max_pool(x, stride, padding)
    sides = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    x, tangent = jnp.pad(x, sides, constant_values=-jnp.inf), jnp.pad(tangent, sides)
    # Columns before rows, so the first of several equal pixels in reading order wins.
    for axis in (2, 1):
        stop = x.shape[axis] - 2
        taps = [
            [lax.slice_in_dim(a, i, i + stop, stride, axis) for a in (x, tangent)] for i in range(3)
        ]
        x, tangent = taps[0]
        for other, other_tangent in taps[1:]:
            tangent = jnp.where(other > x, other_tangent, tangent)
            x = jnp.maximum(x, other)
    return maxima, tangent


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
