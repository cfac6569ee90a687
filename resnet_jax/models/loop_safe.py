"""A convolution by XLA whose gradients are as fast on a CPU as its result, in loops too.

XLA's CPU backend runs the two gradients of `lax.conv_general_dilated` 8 to 20 times slower inside a loop
body (`lax.scan`, `lax.map`; jax issue 12868), because it takes the fast path only for convolutions in the
layout `b01f,01io->b01f`; it multiplies with all the zeros of a dilated gradient; and it is up to 90 times
slower where an image is smaller than the kernel. Here both gradients are dense forward convolutions in that
layout, or matrix products.
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


def forward(images: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """See `Passes`."""
    smaller = any(n < k for n, k in zip(images.shape[1:3], kernel.shape[:2], strict=True))
    if smaller and window.groups == 1:
        return _product_of_patches(images, kernel, window)
    strides, padding, groups = window
    return lax.conv_general_dilated(
        images, kernel, strides, padding, dimension_numbers=LAYOUT, feature_group_count=groups
    )


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
    # A kernel entry is the correlation of the images with the gradient, summed over the batch: the
    # batch takes the place of the input channels. The channels stay next to the columns, and a step
    # to the next column is one over all of them: so the images are transposed as a matrix, which is
    # the cheapest way.
    batch, height, width, channels = images.shape
    in_group = channels // groups
    rows, (left, right) = dilated_padding(images, gradient, kernel_size, window)
    turned = images.reshape(batch, height, width, groups, in_group).transpose(3, 1, 2, 4, 0)
    result = lax.conv_general_dilated(
        turned.reshape(groups, height, width * in_group, batch),
        gradient.transpose(1, 2, 0, 3),
        (1, 1),
        (rows, (left * in_group, right * in_group)),
        rhs_dilation=(strides[0], strides[1] * in_group),
        dimension_numbers=LAYOUT,
        batch_group_count=groups,
    )
    return result.reshape(*kernel_size, in_group, -1)


PASSES = Passes(forward, image_gradient_by(forward), kernel_gradient)
