"""Compares convolutions by the oneDNN inside jaxlib with NumPy, in a process that may crash.

    python -m resnet_jax.onednn_trial float32

Exits with 0 if all are right, else with 1 and a line that names the first wrong one.
"""

import contextlib
import sys
from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import serialize_executable

from resnet_jax.models import loop_safe, onednn
from resnet_jax.models.passes import Passes, Window

# Error over the sum of the absolute values of all products. A bfloat16 has 8 bits.
BOUNDS = {"float32": 1e-5, "bfloat16": 2.0**-7}
# Shapes of images and kernels, and windows: what residual networks have. Sizes are odd and batches no
# multiple of sixteen, so that mistaken axes show.
CASES = (
    ((4, 9, 7, 16), (3, 3, 16, 24), Window((1, 1), ((1, 1), (1, 1)), 1)),
    ((32, 8, 8, 8), (3, 3, 8, 8), Window((2, 2), ((1, 1), (1, 1)), 1)),
    ((3, 15, 13, 3), (7, 7, 3, 16), Window((2, 2), ((3, 3), (3, 3)), 1)),
    ((5, 6, 5, 32), (1, 1, 32, 8), Window((2, 2), ((0, 0), (0, 0)), 1)),
    ((6, 5, 6, 16), (3, 3, 4, 24), Window((1, 1), ((1, 1), (1, 1)), 4)),
    ((8, 2, 2, 64), (3, 3, 64, 32), Window((1, 1), ((1, 1), (1, 1)), 1)),
)
PASSES = ("result", "gradient of the images", "gradient of the kernel")


def passes_by_numpy(
    images: np.ndarray, kernel: np.ndarray, gradient: np.ndarray, window: Window
) -> list[np.ndarray]:
    """Result and gradients of images and kernel, for a gradient of the result.

    Args:
        images: float64[batch, height, width, groups * c].
        kernel: float64[m, n, c, groups * d].
        gradient: float64[batch, rows, columns, groups * d].
        window: with padding that is not negative.
    """
    (rows, columns), padding, groups = window
    padded = np.pad(images, [(0, 0), *padding, (0, 0)])
    padded = padded.reshape(*padded.shape[:3], groups, -1)
    filters = kernel.reshape(*kernel.shape[:3], groups, -1)
    parts = gradient.reshape(*gradient.shape[:3], groups, -1)
    result, of_images, of_kernel = map(np.zeros_like, (parts, padded, filters))
    for row, column in np.ndindex(kernel.shape[:2]):
        seen = np.s_[:, row::rows, column::columns]
        pixels = padded[seen][:, : parts.shape[1], : parts.shape[2]]
        result += np.einsum("nhwgc,cgd->nhwgd", pixels, filters[row, column])
        of_pixels = np.einsum("nhwgd,cgd->nhwgc", parts, filters[row, column])
        of_images[seen][:, : parts.shape[1], : parts.shape[2]] += of_pixels
        of_kernel[row, column] = np.einsum("nhwgc,nhwgd->cgd", pixels, parts)
    top, left = padding[0][0], padding[1][0]
    of_images = of_images[:, top : top + images.shape[1], left : left + images.shape[2]]
    arrays = (result, gradient), (of_images, images), (of_kernel, kernel)
    return [array.reshape(like.shape) for array, like in arrays]


def faults(passes: Passes, dtype: str) -> Iterator[str]:
    """A line for each pass that differs from NumPy's in float64, alone or in a loop.

    Args:
        passes: what to try.
        dtype: `float32` or `bfloat16`.
    """
    random = np.random.default_rng(0)
    for image_shape, kernel_shape, window in CASES:
        compute = partial(_all_passes, passes, image_shape[1:3], kernel_shape[:2], window)
        shapes = [image_shape, kernel_shape, _result_shape(image_shape, kernel_shape, window)]
        arrays = [jnp.asarray(random.standard_normal(shape), dtype) for shape in shapes]
        images, kernel, gradient = (np.asarray(array, np.float64) for array in arrays)
        expected = passes_by_numpy(images, kernel, gradient, window)
        sizes = passes_by_numpy(np.abs(images), np.abs(kernel), np.abs(gradient), window)
        program = jax.jit(compute).lower(arrays).compile()
        # To write it into a compilation cache fails, which must not end the process.
        with contextlib.suppress(Exception):
            serialize_executable.serialize(program)
        alone = program(arrays)
        looped = jax.jit(partial(lax.map, compute))([array[None] for array in arrays])
        for found in (alone, [array[0] for array in looped]):
            for name, array, right, size in zip(PASSES, found, expected, sizes, strict=True):
                error = np.abs(np.asarray(array, np.float64) - right) / (size + 1e-30)
                if not np.max(error) <= BOUNDS[dtype]:
                    yield f"the {name} of {image_shape} by {kernel_shape} is wrong in {dtype}"


def _result_shape(image_shape, kernel_shape, window):
    arrays = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (image_shape, kernel_shape))
    return jax.eval_shape(partial(loop_safe.forward, window=window), *arrays).shape


def _all_passes(passes, image_size, kernel_size, window, arrays):
    images, kernel, gradient = arrays
    return (
        passes.forward(images, kernel, window),
        passes.image_gradient(gradient, kernel, image_size, window),
        passes.kernel_gradient(images, gradient, kernel_size, window),
    )


def main() -> None:
    (dtype,) = sys.argv[1:]
    with contextlib.suppress(ImportError):
        import resource

        # A crash here is an answer, and leaves no core file.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    fault = next(faults(onednn.passes_of_onednn(), dtype), None)
    if fault is not None:
        print(fault)
        sys.exit(1)


if __name__ == "__main__":
    main()
