"""Convolutions and their gradients by oneDNN, called from JAX on a CPU."""

import ctypes
import importlib.metadata
import os
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_FUNCTION = "resnet_jax_convolution"
# Names of calls in a program, in the order of `Pass` in convolution.cc.
TARGETS = (_FUNCTION, f"{_FUNCTION}_image_gradient", f"{_FUNCTION}_kernel_gradient")
_FORWARD, _IMAGE_GRADIENT, _KERNEL_GRADIENT = range(3)


@cache
def faster(passes: Any) -> Any:
    """`passes`, computed by oneDNN where that has fast code for the shapes.

    Args:
        passes: a `resnet_jax.models.passes.Passes`; computes the rest, such as other types.

    Raises:
        OSError: the library does not run on this machine.
        ImportError: the library is not installed.
    """
    _library()

    def forward(images: jax.Array, kernel: jax.Array, window: Any) -> jax.Array:
        crop, inner = _crop(window)
        size = _cropped_size(images.shape[1:3], crop)
        result = [
            (n + low + high - k) // step + 1
            for n, (low, high), k, step in zip(
                size, inner.padding, kernel.shape[:2], window.strides, strict=True
            )
        ]
        shape = (len(images), *result, kernel.shape[3])
        cropped = (len(images), *size, images.shape[3])
        numbers = _numbers(_FORWARD, cropped, kernel.shape, shape, images.dtype, inner)
        if not _supported(numbers, images, kernel):
            return passes.forward(images, kernel, window)
        return _call(numbers, shape, _padded(images, crop), kernel)

    def image_gradient(
        gradient: jax.Array, kernel: jax.Array, image_size: tuple[int, int], window: Any
    ) -> jax.Array:
        crop, inner = _crop(window)
        size = _cropped_size(image_size, crop)
        shape = (len(gradient), *size, kernel.shape[2] * window.groups)
        numbers = _numbers(
            _IMAGE_GRADIENT, shape, kernel.shape, gradient.shape, gradient.dtype, inner
        )
        if not _supported(numbers, gradient, kernel):
            return passes.image_gradient(gradient, kernel, image_size, window)
        images = _call(numbers, shape, gradient, kernel)
        return _padded(images, [(-low, -high) for low, high in crop])

    def kernel_gradient(
        images: jax.Array, gradient: jax.Array, kernel_size: tuple[int, int], window: Any
    ) -> jax.Array:
        crop, inner = _crop(window)
        size = _cropped_size(images.shape[1:3], crop)
        shape = (*kernel_size, images.shape[3] // window.groups, gradient.shape[3])
        cropped = (len(images), *size, images.shape[3])
        numbers = _numbers(_KERNEL_GRADIENT, cropped, shape, gradient.shape, images.dtype, inner)
        # Measured: XLA's product of patches is faster for many channels of a few pixels.
        pixels = gradient.shape[1] * gradient.shape[2]
        slower = window.groups == 1 and pixels <= 4 and shape[2] > 64
        if slower or not _supported(numbers, images, gradient):
            return passes.kernel_gradient(images, gradient, kernel_size, window)
        return _call(numbers, shape, _padded(images, crop), gradient)

    return passes._replace(
        forward=forward, image_gradient=image_gradient, kernel_gradient=kernel_gradient
    )


@cache
def _library() -> ctypes.CDLL:
    files = importlib.metadata.files("onednn-cpu-gomp") or ()
    (onednn,) = (file.locate() for file in files if file.name == "libdnnl.so.3")
    # The second names the first without a directory: what is loaded already is found by its name.
    # Their own symbols come first: another library of the process may contain another oneDNN.
    mode = os.RTLD_NOW | os.RTLD_LOCAL | os.RTLD_DEEPBIND
    ctypes.CDLL(str(Path(onednn).resolve()), mode)
    library = ctypes.CDLL(str(next(Path(__file__).parent.glob("_convolution*.so"))), mode)
    function = jax.ffi.pycapsule(library[_FUNCTION])
    for target in TARGETS:
        jax.ffi.register_ffi_target(target, function, platform="cpu")
    return library


def _crop(window: Any) -> tuple[list[tuple[int, int]], Any]:
    """The negative paddings (low, high), which oneDNN does not take, and the window without them."""
    crop = [(min(low, 0), min(high, 0)) for low, high in window.padding]
    padding = tuple((max(low, 0), max(high, 0)) for low, high in window.padding)
    return crop, window._replace(padding=padding)


def _cropped_size(size: tuple[int, ...], crop: list[tuple[int, int]]) -> list[int]:
    return [n + low + high for n, (low, high) in zip(size, crop, strict=True)]


def _padded(images: jax.Array, padding: list[tuple[int, int]]) -> jax.Array:
    if not any(low or high for low, high in padding):
        return images
    config = [(0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0)]
    return lax.pad(images, jnp.zeros((), images.dtype), config)


def _numbers(
    which: int,
    images: tuple[int, ...],
    kernel: tuple[int, ...],
    result: tuple[int, ...],
    dtype: Any,
    window: Any,
) -> tuple[int, ...]:
    """The fields of `Problem` in convolution.cc."""
    how = (*window.strides, *window.padding[0], *window.padding[1], window.groups)
    return (which, int(dtype == jnp.bfloat16), *images, *kernel[:2], *result[1:], *how)


def _supported(numbers: tuple[int, ...], *arrays: jax.Array) -> bool:
    (dtype, *others) = {array.dtype for array in arrays}
    if others or dtype not in (jnp.float32, jnp.bfloat16):
        return False
    sizes = numbers[2:11]
    return min(sizes) > 0 and _has_code(numbers)


@cache
def _has_code(numbers: tuple[int, ...]) -> bool:
    return bool(_library().resnet_jax_has_code((ctypes.c_int64 * len(numbers))(*numbers)))


def _call(
    numbers: tuple[int, ...], shape: tuple[int, ...], left: jax.Array, right: jax.Array
) -> jax.Array:
    result = jax.ShapeDtypeStruct(shape, left.dtype)
    call = jax.ffi.ffi_call(TARGETS[numbers[0]], result, vmap_method="sequential")
    return call(left, right, numbers=np.asarray(numbers, np.int64))
