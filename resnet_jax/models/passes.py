"""The three passes of a convolution: result, gradient of the images, gradient of the kernel.

A convolution and its two gradients are linear in both arguments, and the gradients of each are the others.
So all three have their derivatives stated by each other, and derivatives of any order are computed by
whatever computes the passes. Forward-mode derivatives do not exist: Hessian-vector products are the gradient
of a product with the gradient.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Pairs = tuple[tuple[int, int], tuple[int, int]]
Size = tuple[int, int]
Two = tuple[jax.Array, jax.Array]


class Window(NamedTuple):
    """How a kernel moves over images.

    Attributes:
        strides: steps in height and width.
        padding: zeros (low, high) for height and width; negative ones crop.
        groups: of channels that do not see each other.
    """

    strides: tuple[int, int]
    padding: Pairs
    groups: int


Forward = Callable[[jax.Array, jax.Array, Window], jax.Array]
Gradient = Callable[[jax.Array, jax.Array, Size, Window], jax.Array]


class Passes(NamedTuple):
    """What computes the passes of images[batch, height, width, groups * c] and kernel[m, n, c, groups * d].

    Attributes:
        forward: (images, kernel, window).
        image_gradient: (gradient, kernel, (height, width) of the images, window).
        kernel_gradient: (images, gradient, (m, n), window).
    """

    forward: Forward
    image_gradient: Gradient
    kernel_gradient: Gradient


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve(images: jax.Array, kernel: jax.Array, window: Window, passes: Passes) -> jax.Array:
    """The convolution, by `passes.forward`."""
    return passes.forward(images, kernel, window)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _image_gradient(
    gradient: jax.Array, kernel: jax.Array, image_size: Size, window: Window, passes: Passes
) -> jax.Array:
    return passes.image_gradient(gradient, kernel, image_size, window)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _kernel_gradient(
    images: jax.Array, gradient: jax.Array, kernel_size: Size, window: Window, passes: Passes
) -> jax.Array:
    return passes.kernel_gradient(images, gradient, kernel_size, window)


def _convolve_backward(window: Window, passes: Passes, arguments: Two, gradient: jax.Array) -> Two:
    images, kernel = arguments
    return (
        _image_gradient(gradient, kernel, images.shape[1:3], window, passes),
        _kernel_gradient(images, gradient, kernel.shape[:2], window, passes),
    )


def _image_gradient_backward(
    image_size: Size, window: Window, passes: Passes, arguments: Two, images: jax.Array
) -> Two:
    del image_size
    gradient, kernel = arguments
    return (
        convolve(images, kernel, window, passes),
        _kernel_gradient(images, gradient, kernel.shape[:2], window, passes),
    )


def _kernel_gradient_backward(
    kernel_size: Size, window: Window, passes: Passes, arguments: Two, kernel: jax.Array
) -> Two:
    del kernel_size
    images, gradient = arguments
    return (
        _image_gradient(gradient, kernel, images.shape[1:3], window, passes),
        convolve(images, kernel, window, passes),
    )


def _keeping_arguments(function: Any) -> Callable[..., Any]:
    return lambda first, second, *how: (function(first, second, *how), (first, second))


convolve.defvjp(_keeping_arguments(convolve), _convolve_backward)
_image_gradient.defvjp(_keeping_arguments(_image_gradient), _image_gradient_backward)
_kernel_gradient.defvjp(_keeping_arguments(_kernel_gradient), _kernel_gradient_backward)


def image_gradient_by(forward: Forward) -> Gradient:
    """`Passes.image_gradient`, stated as a dense `forward` convolution."""
    return partial(_sub_pixel_convolution, forward)


def _sub_pixel_convolution(
    forward: Forward, gradient: jax.Array, kernel: jax.Array, image_size: Size, window: Window
) -> jax.Array:
    # Pixels whose places differ by a multiple of the stride, a phase, meet the same entries of the
    # kernel, `stride` apart. So each phase is a dense convolution of the gradient with a part of the
    # kernel; one convolution computes all of them as channels, which are then put in their places
    # (a sub-pixel convolution: Shi et al. 2016, §3.1). With stride 1 there is one phase.
    strides, padding, groups = window
    *kernel_size, in_group, out_channels = kernel.shape
    phases = [min(k, s) for k, s in zip(kernel_size, strides, strict=True)]
    taps = [-(-k // s) for k, s in zip(kernel_size, strides, strict=True)]
    # Of the padded image, the part from the last whole window step before the image to its end.
    skipped = [low // s for (low, _), s in zip(padding, strides, strict=True)]
    margin = [low % s for (low, _), s in zip(padding, strides, strict=True)]
    extents = [-(-(m + n) // s) for m, n, s in zip(margin, image_size, strides, strict=True)]

    filled = [(0, n * t - k) for n, t, k in zip(phases, taps, kernel_size, strict=True)]
    parts = jnp.pad(kernel, [*filled, (0, 0), (0, 0)]).reshape(
        taps[0], phases[0], taps[1], phases[1], in_group, groups, out_channels // groups
    )
    turned = jnp.flip(parts, (0, 2)).transpose(0, 2, 6, 5, 1, 3, 4)
    rows, columns = (
        (t - 1 - skip, extent + skip - n)
        for t, skip, extent, n in zip(taps, skipped, extents, gradient.shape[1:3], strict=True)
    )
    phase_images = forward(
        gradient,
        turned.reshape(*taps, out_channels // groups, -1),
        Window((1, 1), (rows, columns), groups),
    )
    if tuple(strides) == (1, 1):
        return phase_images
    in_place = phase_images.reshape(-1, *extents, groups, *phases, in_group)
    in_place = in_place.transpose(0, 1, 4, 2, 5, 3, 6)
    unseen = [(0, s - n) for s, n in zip(strides, phases, strict=True)]
    in_place = jnp.pad(in_place, [(0, 0), (0, 0), unseen[0], (0, 0), unseen[1], (0, 0), (0, 0)])
    height, width = (extent * s for extent, s in zip(extents, strides, strict=True))
    images = in_place.reshape(-1, height, width, groups * in_group)
    top, left = (slice(m, m + n) for m, n in zip(margin, image_size, strict=True))
    return images[:, top, left]


def is_product(kernel_size: tuple[int, int], window: Window) -> bool:
    """Whether a kernel of one pixel sees single pixels, in one group."""
    return kernel_size == (1, 1) and window.padding == ((0, 0), (0, 0)) and window.groups == 1


def seen_pixels(images: jax.Array, gradient: jax.Array, window: Window) -> list[jax.Array]:
    """The pixels that a kernel of one pixel sees, and their gradients, as two matrices."""
    rows, columns = window.strides
    arrays = images[:, ::rows, ::columns], gradient
    return [array.reshape(-1, array.shape[-1]) for array in arrays]


def dilated_padding(
    images: jax.Array, gradient: jax.Array, kernel_size: tuple[int, int], window: Window
) -> Pairs:
    """Padding that a kernel's gradient needs, as the convolution of images with the dilated gradient."""
    rows, columns = (
        (low, k - 1 + (n - 1) * s + 1 - size - low)
        for k, (low, _), s, n, size in zip(
            kernel_size,
            window.padding,
            window.strides,
            gradient.shape[1:3],
            images.shape[1:3],
            strict=True,
        )
    )
    return rows, columns
