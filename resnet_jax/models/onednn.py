"""Convolutions by oneDNN, which jaxlib for Linux on x86-64 contains.

XLA's CPU backend runs oneDNN's forward convolution and matrix product for two custom calls, on its own
threads. They are an internal interface of XLA: a wrong configuration ends the process, and another jaxlib
may take another one. So it is used only where `resnet_jax.onednn_check` found it right.

What was not compared with float64 for the shapes of residual networks is computed by `loop_safe`.
"""

import json
from collections.abc import Iterable
from typing import Any

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
)

# Axes of a batch of images, a kernel, and a gradient in a kernel's place, which is summed over the batch:
# batch or input features, channels or output features, and the spatial ones.
_Axes = tuple[int, int, tuple[int, int]]
_IMAGES: _Axes = (0, 3, (1, 2))
_KERNEL: _Axes = (2, 3, (0, 1))
_GRADIENT: _Axes = (0, 3, (1, 2))


def _supported(*arrays: jax.Array) -> bool:
    (dtype, *others) = {array.dtype for array in arrays}
    return not others and dtype in (jnp.float32, jnp.bfloat16) and all(a.size for a in arrays)


def forward(images: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """See `Passes`."""
    if not _supported(images, kernel):
        return loop_safe.forward(images, kernel, window)
    return _convolution(images, kernel, _KERNEL, window, (1, 1))


def kernel_gradient(
    images: jax.Array, gradient: jax.Array, kernel_size: tuple[int, int], window: Window
) -> jax.Array:
    """See `Passes`."""
    strides, _, groups = window
    # In bfloat16 some shapes of kernels that are not square end the process.
    odd = window.strides[0] != window.strides[1] or kernel_size[0] != kernel_size[1]
    if not _supported(images, gradient) or (odd and images.dtype == jnp.bfloat16):
        return loop_safe.kernel_gradient(images, gradient, kernel_size, window)
    if is_product(kernel_size, window):
        seen = images[:, :: strides[0], :: strides[1]]
        pixels = [array.reshape(-1, array.shape[-1]) for array in (seen, gradient)]
        return _product_of_transposed(*pixels)[None, None]
    # As `loop_safe.kernel_gradient`, but groups stay among the channels.
    batch, height, width, channels = images.shape
    in_group = channels // groups
    rows, (left, right) = dilated_padding(images, gradient, kernel_size, window)
    turned = images.reshape(batch, height, width, groups, in_group).transpose(1, 2, 4, 3, 0)
    result = _convolution(
        turned.reshape(1, height, width * in_group, groups * batch),
        gradient,
        _GRADIENT,
        Window((1, 1), (rows, (left * in_group, right * in_group)), groups),
        (strides[0], strides[1] * in_group),
    )
    return result.reshape(*kernel_size, in_group, -1)


def _convolution(
    images: jax.Array, kernel: jax.Array, axes: _Axes, window: Window, dilation: tuple[int, int]
) -> jax.Array:
    """images[batch, height, width, channels] convolved with a kernel of these axes and dilation."""
    # oneDNN takes no negative padding.
    crop = [(min(low, 0), min(high, 0), 0) for low, high in window.padding]
    if any(low or high for low, high, _ in crop):
        zero = jnp.zeros((), images.dtype)
        images = lax.pad(images, zero, [(0, 0, 0), *crop, (0, 0, 0)])
    padding = [(max(low, 0), max(high, 0)) for low, high in window.padding]
    size = [
        (n + low + high - (kernel.shape[axis] - 1) * step - 1) // stride + 1
        for n, (low, high), axis, step, stride in zip(
            images.shape[1:3], padding, axes[2], dilation, window.strides, strict=True
        )
    ]
    config = {
        "dims": "4",
        "feature_groups": str(window.groups),
        "input": {"data": _named("batch_dim", "feature_dim", _IMAGES)},
        "kernel": {"filter": _named("input_feature_dim", "output_feature_dim", axes)},
        "output": {"data": _named("batch_dim", "feature_dim", _IMAGES)},
        "window": {
            "pad_left": _texts(low for low, _ in padding),
            "pad_right": _texts(high for _, high in padding),
            "strides": _texts(window.strides),
            "window_dilations": _texts(dilation),
        },
    }
    shape = (len(images), *size, kernel.shape[axes[1]])
    return _call("convolution", {"onednn_conv_config": config}, shape, images, kernel)


def _product_of_transposed(left: jax.Array, right: jax.Array) -> jax.Array:
    """left.T @ right, of two matrices."""
    config = {"onednn_matmul_config": {"transpose_a": True, "transpose_b": False}}
    return _call("matmul", config, (left.shape[1], right.shape[1]), left, right)


def _named(first: str, second: str, axes: _Axes) -> dict[str, Any]:
    return {first: str(axes[0]), second: str(axes[1]), "spatial_dims": _texts(axes[2])}


def _texts(numbers: Iterable[int]) -> list[str]:
    return [str(number) for number in numbers]


def _call(
    name: str, config: dict[str, Any], shape: tuple[int, ...], left: jax.Array, right: jax.Array
) -> jax.Array:
    row_major = tuple(range(left.ndim))
    call = jax.ffi.ffi_call(
        f"__onednn${name}",
        jax.ShapeDtypeStruct(shape, left.dtype),
        vmap_method="sequential",
        custom_call_api_version=2,
        legacy_backend_config=json.dumps(config),
        input_layouts=[row_major, row_major],
        output_layouts=row_major,
    )
    return call(left, right)


PASSES = Passes(forward, image_gradient_by(forward), kernel_gradient)
