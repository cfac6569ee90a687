"""Convolutions by oneDNN, which jaxlib for Linux on x86-64 contains.

XLA's CPU backend runs oneDNN's forward convolution and matrix product for two custom calls, on its own
threads. They are an internal interface of XLA: a wrong configuration ends the process, and another jaxlib
may take another one. So it is used only where `resnet_jax.onednn_check` found it right.

What was not compared with float64 for the shapes of residual networks is computed by `loop_safe`.
"""

import json
import math
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from resnet_jax.models import loop_safe
from resnet_jax.models.passes import (
    Passes,
    Window,
    dilated_padding,
    image_gradient_by,
    is_product,
    seen_pixels,
)

_CONVOLUTION, _PRODUCT = "__onednn$convolution", "__onednn$matmul"
# Calls of a forward pass in a program: jaxlib's and the one in `native/`.
FORWARD_CALLS = (_CONVOLUTION, "resnet_jax_convolution")
# The batch of a kernel's gradient is summed in parts of this number of images. They become the channels of a
# convolution, for which the images are transposed: of more images that would be slow.
_PART = 16
# Multiply-adds of a pass from which a call into jaxlib gains more than it costs.
_LEAST = 2**24


def _supported(*arrays: jax.Array) -> bool:
    (dtype, *others) = {array.dtype for array in arrays}
    return not others and dtype in (jnp.float32, jnp.bfloat16) and all(a.size for a in arrays)


def forward(images: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """See `Passes`."""
    if not _supported(images, kernel):
        return loop_safe.forward(images, kernel, window)
    axes = _Axes(features=2, outputs=3, spatial=(0, 1))
    return _convolution(images, kernel, axes, window.padding, window.groups, window.strides)


def kernel_gradient(
    images: jax.Array, gradient: jax.Array, kernel_size: tuple[int, int], window: Window
) -> jax.Array:
    """See `Passes`."""
    strides, _, groups = window
    # In bfloat16 some shapes of kernels that are not square end the process.
    odd = strides[0] != strides[1] or kernel_size[0] != kernel_size[1]
    if not _supported(images, gradient) or (odd and images.dtype == jnp.bfloat16):
        return loop_safe.kernel_gradient(images, gradient, kernel_size, window)
    if is_product(kernel_size, window):
        return _product_of_transposed(*seen_pixels(images, gradient, window))[None, None]
    # As in `loop_safe.kernel_gradient`; parts of the batch are a further axis of space, and groups stay
    # among the channels.
    batch, height, width, channels = images.shape
    in_group = channels // groups
    part = math.gcd(batch, _PART)
    turned = images.reshape(-1, part, height, width, groups, in_group).transpose(0, 2, 3, 5, 4, 1)
    rows, (left, right) = dilated_padding(images, gradient, kernel_size, window)
    result = _convolution(
        turned.reshape(1, -1, height, width * in_group, groups * part),
        gradient.reshape(-1, part, *gradient.shape[1:]),
        _Axes(features=1, outputs=4, spatial=(0, 2, 3)),
        ((0, 0), rows, (left * in_group, right * in_group)),
        groups,
        dilation=(1, strides[0], strides[1] * in_group),
    )
    return result.reshape(*kernel_size, in_group, -1)


class _Axes(NamedTuple):
    """Axes of a kernel: its input features, its output features, and space."""

    features: int
    outputs: int
    spatial: tuple[int, ...]


def _convolution(
    images: jax.Array,
    kernel: jax.Array,
    axes: _Axes,
    padding: Sequence[tuple[int, int]],
    groups: int,
    strides: Sequence[int] | None = None,
    dilation: Sequence[int] | None = None,
) -> jax.Array:
    """images[batch, *space, channels] convolved with a kernel of these axes."""
    strides, dilation = (steps or [1] * len(padding) for steps in (strides, dilation))
    # oneDNN takes no negative padding.
    crop = [(min(low, 0), min(high, 0), 0) for low, high in padding]
    if any(low or high for low, high, _ in crop):
        zero = jnp.zeros((), images.dtype)
        images = lax.pad(images, zero, [(0, 0, 0), *crop, (0, 0, 0)])
    padding = [(max(low, 0), max(high, 0)) for low, high in padding]
    size = [
        (n + low + high - (kernel.shape[axis] - 1) * step - 1) // stride + 1
        for n, (low, high), axis, step, stride in zip(
            images.shape[1:-1], padding, axes.spatial, dilation, strides, strict=True
        )
    ]
    last = images.ndim - 1
    data = {"batch_dim": "0", "feature_dim": str(last), "spatial_dims": _texts(range(1, last))}
    config = {
        "dims": str(images.ndim),
        "feature_groups": str(groups),
        "input": {"data": data},
        "kernel": {
            "filter": {
                "input_feature_dim": str(axes.features),
                "output_feature_dim": str(axes.outputs),
                "spatial_dims": _texts(axes.spatial),
            }
        },
        "output": {"data": data},
        "window": {
            "pad_left": _texts(low for low, _ in padding),
            "pad_right": _texts(high for _, high in padding),
            "strides": _texts(strides),
            "window_dilations": _texts(dilation),
        },
    }
    shape = (len(images), *size, kernel.shape[axes.outputs])
    return _call(_CONVOLUTION, {"onednn_conv_config": config}, shape, images, kernel)


def _product_of_transposed(left: jax.Array, right: jax.Array) -> jax.Array:
    """left.T @ right, of two matrices."""
    config = {"onednn_matmul_config": {"transpose_a": True, "transpose_b": False}}
    return _call(_PRODUCT, config, (left.shape[1], right.shape[1]), left, right)


def _texts(numbers: Iterable[int]) -> list[str]:
    return [str(number) for number in numbers]


def _call(
    name: str, config: dict[str, Any], shape: tuple[int, ...], left: jax.Array, right: jax.Array
) -> jax.Array:
    row_major = tuple(range(left.ndim))
    call = jax.ffi.ffi_call(
        name,
        jax.ShapeDtypeStruct(shape, left.dtype),
        vmap_method="sequential",
        custom_call_api_version=2,
        legacy_backend_config=json.dumps(config),
        input_layouts=[row_major, row_major],
        output_layouts=row_major,
    )
    return call(left, right)


PASSES = Passes(forward, image_gradient_by(forward), kernel_gradient)


@cache
def passes_of_onednn() -> Passes:
    """By the extension in `native/` where it is installed and runs; else by jaxlib's oneDNN.

    The extension leaves the rest to `loop_safe`: JAX cannot keep a program with a call of jaxlib's oneDNN in
    its compilation cache.
    """
    try:
        import resnet_jax_native

        return resnet_jax_native.faster(loop_safe.PASSES)
    except (ImportError, OSError):
        return PASSES


@cache
def fastest_passes() -> Passes:
    """`passes_of_onednn`, but by `loop_safe` where a call into jaxlib would cost more than it gains."""
    passes = passes_of_onednn()
    return _for_large_arrays(passes) if passes is PASSES else passes


def _for_large_arrays(passes: Passes) -> Passes:
    def chosen(pixels: int, entries: int) -> Passes:
        return passes if pixels * entries >= _LEAST else loop_safe.PASSES

    def forward(images: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
        pixels = math.prod(images.shape[:3]) // math.prod(window.strides)
        return chosen(pixels, kernel.size).forward(images, kernel, window)

    def image_gradient(
        gradient: jax.Array, kernel: jax.Array, image_size: tuple[int, int], window: Window
    ) -> jax.Array:
        by = chosen(math.prod(gradient.shape[:3]), kernel.size)
        return by.image_gradient(gradient, kernel, image_size, window)

    def kernel_gradient(
        images: jax.Array, gradient: jax.Array, kernel_size: tuple[int, int], window: Window
    ) -> jax.Array:
        entries = math.prod(kernel_size) * images.shape[3] // window.groups
        by = chosen(gradient.size, entries)
        return by.kernel_gradient(images, gradient, kernel_size, window)

    return Passes(forward, image_gradient, kernel_gradient)
