"""A convolution by XLA whose gradients are as fast on a CPU as its result, in loops too.

XLA's CPU backend runs the two gradients of `lax.conv_general_dilated` 8 to 20 times slower inside a loop
body (`lax.scan`, `lax.map`; jax issue 12868), because it takes the fast path only for convolutions in the
layout `b01f,01io->b01f`; it multiplies with all the zeros of a dilated gradient; and it is up to 90 times
slower where an image is smaller than the kernel. Here both gradients are dense forward convolutions in that
layout, or matrix products. Groups of few channels, which XLA convolves up to 200 times slower, are merged into
wider ones.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from resnet_jax.models.passes import (
    Passes,
    Window,
    dilated_padding,
    image_gradient_by,
    is_product,
    seen_pixels,
)

LAYOUT = ("NHWC", "HWIO", "NHWC")
# Channels up to which groups are merged: the zeros that this adds cost less than narrow groups.
_MERGED_CHANNELS = 32


def forward(images: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """See `Passes`."""
    smaller = any(n < k for n, k in zip(images.shape[1:3], kernel.shape[:2], strict=True))
    if smaller and window.groups == 1:
        return _product_of_patches(images, kernel, window)
    strides, padding, groups = window
    merged = _mergeable(groups, kernel.shape[2])
    return lax.conv_general_dilated(
        images,
        _merge(kernel, groups, merged) if merged > 1 else kernel,
        strides,
        padding,
        dimension_numbers=LAYOUT,
        feature_group_count=groups // merged,
    )


def _mergeable(groups: int, in_group: int) -> int:
    """How many groups of this many channels become one."""
    most = max(1, min(groups, _MERGED_CHANNELS // in_group))
    return next(number for number in range(most, 0, -1) if groups % number == 0)


def _merge(kernel: jax.Array, groups: int, merged: int) -> jax.Array:
    """A kernel[m, n, c, d] whose groups are `merged` times as wide, block by block: [m, n, merged * c, d]."""
    *size, in_group, outputs = kernel.shape
    of_output = jnp.arange(outputs) // (outputs // groups) % merged
    own = jnp.arange(merged)[:, None, None] == of_output
    blocks = jnp.where(own, kernel[:, :, None], jnp.zeros((), kernel.dtype))
    return blocks.reshape(*size, merged * in_group, outputs)


def _unmerge(kernel: jax.Array, merged: int) -> jax.Array:
    """The blocks of a merged group's kernel[m, n, merged * c, d] that `_merge` fills: [m, n, c, d]."""
    *size, channels, outputs = kernel.shape
    shape = (*size, merged, channels // merged, merged, outputs // merged)
    blocks = jnp.diagonal(kernel.reshape(shape), axis1=2, axis2=4)
    return jnp.moveaxis(blocks, -1, -2).reshape(*size, -1, outputs)


def _product_of_patches(images: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    strides, padding, _ = window
    padded = lax.pad(
        images,
        jnp.zeros((), images.dtype),
        [(0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0)],
    )
    size = [
        (n - k) // s + 1
        for n, k, s in zip(padded.shape[1:3], kernel.shape[:2], strides, strict=True)
    ]
    shifted = [
        lax.slice(
            padded,
            (0, row, column, 0),
            (
                len(images),
                row + (size[0] - 1) * strides[0] + 1,
                column + (size[1] - 1) * strides[1] + 1,
                images.shape[3],
            ),
            (1, *strides, 1),
        )
        for row in range(kernel.shape[0])
        for column in range(kernel.shape[1])
    ]
    patches = jnp.concatenate(shifted, -1).reshape(-1, math.prod(kernel.shape[:3]))
    result = jnp.matmul(patches, kernel.reshape(-1, kernel.shape[3]))
    return result.reshape(len(images), *size, kernel.shape[3])


def kernel_gradient(
    images: jax.Array, gradient: jax.Array, kernel_size: tuple[int, int], window: Window
) -> jax.Array:
    """See `Passes`."""
    strides, _, groups = window
    if is_product(kernel_size, window):
        seen, gradients = seen_pixels(images, gradient, window)
        return jnp.matmul(seen.T, gradients)[None, None]
    if groups > 1:
        return _kernel_gradient_of_groups(images, gradient, kernel_size, window)
    # A kernel entry is the correlation of the images with the gradient, summed over the batch: the
    # batch takes the place of the input channels. The channels stay next to the columns, and a step
    # to the next column is one over all of them: so the images are transposed as a matrix, which is
    # the cheapest way.
    batch, height, width, channels = images.shape
    rows, (left, right) = dilated_padding(images, gradient, kernel_size, window)
    turned = images.reshape(batch, -1).T.reshape(1, height, width * channels, batch)
    result = lax.conv_general_dilated(
        turned,
        gradient.transpose(1, 2, 0, 3),
        (1, 1),
        (rows, (left * channels, right * channels)),
        rhs_dilation=(strides[0], strides[1] * channels),
        dimension_numbers=LAYOUT,
    )
    return result.reshape(*kernel_size, channels, -1)


def _kernel_gradient_of_groups(
    images: jax.Array, gradient: jax.Array, kernel_size: tuple[int, int], window: Window
) -> jax.Array:
    merged = _mergeable(window.groups, images.shape[3] // window.groups)
    number, one = window.groups // merged, window._replace(groups=1)

    def apart(array: jax.Array) -> jax.Array:
        return jnp.moveaxis(array.reshape(*array.shape[:3], number, -1), 3, 0)

    def of_one(arrays: tuple[jax.Array, jax.Array]) -> jax.Array:
        return _unmerge(kernel_gradient(*arrays, kernel_size, one), merged)

    kernels = lax.map(of_one, (apart(images), apart(gradient)))
    return jnp.moveaxis(kernels, 0, -2).reshape(*kernels.shape[1:-1], -1)


PASSES = Passes(forward, image_gradient_by(forward), kernel_gradient)
