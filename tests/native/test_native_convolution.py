"""The extension in native/ computes convolutions and their gradients; where it is not installed nothing is tested."""

import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import lax
from jax.experimental import serialize_executable
from jax.sharding import Mesh, PartitionSpec

from resnet_jax.models import loop_safe
from resnet_jax.models.passes import Passes, Window, convolve

resnet_jax_native = pytest.importorskip("resnet_jax_native")
FASTER = resnet_jax_native.faster(loop_safe.PASSES)


def exact_passes(images, kernel, cotangent, window):
    """In float64, as sums of products; XLA's own gradients end the process for some shapes."""
    (rows, columns), padding, groups = window
    images, kernel, cotangent = (np.asarray(a, np.float64) for a in (images, kernel, cotangent))
    height, width, in_group, outputs = kernel.shape
    batch, *size, channels = images.shape
    margin = 3  # More than any padding.
    wide = np.pad(images, [(0, 0), (margin, margin), (margin, margin), (0, 0)])
    wide_gradient = np.zeros_like(wide)
    top, left = (margin - low for low, _ in padding)
    result_size = [
        (n + low + high - k) // step + 1
        for n, (low, high), k, step in zip(
            size, padding, (height, width), window.strides, strict=True
        )
    ]
    result = np.zeros((batch, *result_size, groups, outputs // groups))
    cotangent = cotangent.reshape(result.shape)
    kernel_gradient = np.zeros_like(kernel)
    for row in range(height):
        for column in range(width):
            first_row, first_column = top + row, left + column
            seen = np.s_[
                :,
                first_row : first_row + rows * (result_size[0] - 1) + 1 : rows,
                first_column : first_column + columns * (result_size[1] - 1) + 1 : columns,
            ]
            pixels = wide[seen].reshape(batch, *result_size, groups, in_group)
            entry = kernel[row, column].reshape(in_group, groups, -1)
            result += np.einsum("bhwgi,igo->bhwgo", pixels, entry)
            of_entry = np.einsum("bhwgi,bhwgo->igo", pixels, cotangent)
            kernel_gradient[row, column] = of_entry.reshape(in_group, outputs)
            of_pixels = np.einsum("bhwgo,igo->bhwgi", cotangent, entry)
            wide_gradient[seen] += of_pixels.reshape(batch, *result_size, channels)
    image_gradient = wide_gradient[:, margin:-margin, margin:-margin]
    return result.reshape(*result.shape[:3], outputs), image_gradient, kernel_gradient


def xla(images, kernel, window):
    strides, padding, groups = window
    return lax.conv_general_dilated(
        images,
        kernel,
        strides,
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def by_extension(images, kernel, window):
    return convolve(images, kernel, window, FASTER)


@st.composite
def problems(draw):
    kernel = draw(st.tuples(*[st.integers(1, 5)] * 2))
    strides = draw(st.tuples(*[st.integers(1, 3)] * 2))
    padding = draw(st.tuples(*[st.tuples(*[st.integers(-1, 3)] * 2)] * 2))
    size = [
        max(draw(st.integers(3, 17)), k - low - high)
        for k, (low, high) in zip(kernel, padding, strict=True)
    ]
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    channels = st.sampled_from([1, 2, 3, 5, 8, 16, 17, 24])
    batch, inputs, outputs = draw(st.integers(1, 9)), draw(channels), draw(channels)
    shapes = (batch, *size, groups * inputs), (*kernel, inputs, groups * outputs)
    return *shapes, Window(strides, padding, groups)


def arrays(images_shape, kernel_shape, window, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(0), 3)
    images = jax.random.normal(keys[0], images_shape, dtype)
    kernel = jax.random.normal(keys[1], kernel_shape, dtype)
    shape = jax.eval_shape(partial(xla, window=window), images, kernel).shape
    return images, kernel, jax.random.normal(keys[2], shape, dtype)


def passes(convolution, images, kernel, cotangent, window):
    """The result, the gradient of the images, and the gradient of the kernel."""
    result, vjp = jax.vjp(partial(convolution, window=window), images, kernel)
    return result, *vjp(cotangent)


@given(problems(), st.sampled_from([jnp.float32, jnp.bfloat16]))
def test_passes_equal_sums_of_products(problem, dtype):
    images, kernel, cotangent = arrays(*problem, dtype)
    expected = exact_passes(images, kernel, cotangent, problem[2])
    rounding = 1e-6 if dtype == jnp.float32 else 1e-2
    for ours, theirs in zip(
        passes(by_extension, images, kernel, cotangent, problem[2]), expected, strict=True
    ):
        assert ours.dtype == dtype
        bound = 20 * rounding * (1 + np.abs(theirs).max())
        np.testing.assert_allclose(np.asarray(ours, np.float32), theirs, rtol=0, atol=bound)


LAYER = (8, 16, 16, 16), (3, 3, 16, 16), Window((1, 1), ((1, 1), (1, 1)), 1)


def never(*arguments):
    raise AssertionError("the shapes of residual networks fell back")


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [3, 16, 64])
def test_layers_of_residual_networks_do_not_fall_back(stride, channels):
    strict = resnet_jax_native.faster(Passes(never, never, never))
    window = Window((stride, stride), ((1, 1), (1, 1)), 1)
    problem = (4, 16, 16, channels), (3, 3, channels, 32), window
    passes(partial(convolve, passes=strict), *arrays(*problem), window)


def test_under_scan_and_vmap():
    images, kernel, _ = arrays(*LAYER)
    kernels, batches = (
        jnp.stack([kernel, kernel / 2, -kernel]) / 12,
        jnp.stack([images, images + 1]),
    )

    def loss(convolution):
        def chain(kernels, x):
            step = lambda x, w: (jnp.tanh(convolution(x, w, LAYER[2])), None)  # noqa: E731
            return jnp.sum(jnp.square(lax.scan(step, x, kernels)[0]))

        return jax.jit(jax.vmap(jax.grad(chain), (None, 0)))(kernels, batches)

    np.testing.assert_allclose(loss(by_extension), loss(xla), rtol=1e-3, atol=1e-2)


def test_the_same_numbers_every_time():
    """Whichever thread computes which part of the batch."""
    images, kernel, cotangent = arrays(*LAYER)
    run = jax.jit(partial(passes, by_extension, window=LAYER[2]))
    first = run(images, kernel, cotangent)
    for _ in range(50):
        for again, before in zip(run(images, kernel, cotangent), first, strict=True):
            np.testing.assert_array_equal(again, before)


def test_in_double_precision_it_falls_back(x64):
    images, kernel, cotangent = arrays(*LAYER, jnp.float64)
    ours = passes(by_extension, images, kernel, cotangent, LAYER[2])
    theirs = passes(xla, images, kernel, cotangent, LAYER[2])
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


def test_on_several_devices_each_computes_its_own():
    devices = jax.devices()
    images, kernel, cotangent = arrays(*LAYER)
    batch = PartitionSpec("batch")

    def local(images, kernel, cotangent):
        *of_images, of_kernel = passes(by_extension, images, kernel, cotangent, LAYER[2])
        return *of_images, lax.psum(of_kernel, "batch")

    spread = jax.shard_map(
        local,
        mesh=Mesh(devices, "batch"),
        in_specs=(batch, PartitionSpec(), batch),
        out_specs=(batch, batch, PartitionSpec()),
        check_vma=False,
    )
    expected = passes(xla, images, kernel, cotangent, LAYER[2])
    for ours, theirs in zip(jax.jit(spread)(images, kernel, cotangent), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-2)


TRAINING = """
import jax, jax.numpy as jnp
from jax import lax
from jax.experimental import serialize_executable
import resnet_jax_native
from resnet_jax.models import loop_safe
from resnet_jax.models.passes import Window, convolve
passes = resnet_jax_native.faster(loop_safe.PASSES)
window = Window((1, 1), ((1, 1), (1, 1)), 1)
def loss(kernels, x):
    for kernel in kernels:
        x = jnp.tanh(convolve(x, kernel, window, passes))
    return jnp.square(x).mean()
def step(kernels, x):
    gradients = lax.pmean(jax.grad(loss)(kernels, x), "batch")
    return [k - 0.1 * g for k, g in zip(kernels, gradients)]
step = jax.pmap(step, "batch")
keys = jax.random.split(jax.random.key(0), 3)
kernels = [jnp.stack([jax.random.normal(key, (3, 3, 8, 8)) / 8] * 8) for key in keys]
x = jax.random.normal(jax.random.key(1), (8, 4, 8, 8, 8))
for _ in range(500):
    kernels = step(kernels, x)
print(jnp.stack(kernels).sum())
"""


@pytest.mark.slow
def test_500_steps_on_8_devices_with_a_second_run_beside_it():
    flags = "--xla_force_host_platform_device_count=8"
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", f"import os; os.environ['XLA_FLAGS'] = {flags!r}\n{TRAINING}"],
            stdout=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    first, second = (run.communicate(timeout=300)[0] for run in runs)
    assert np.isfinite(float(first))
    assert first == second


def test_programs_of_all_passes_can_be_kept_in_a_compilation_cache():
    """Of a kernel of one pixel and of maps with fewer pixels than channels too."""
    for size, channels, kernel in ((8, 16, 3), (8, 16, 1), (2, 64, 3), (1, 64, 1)):
        images = jnp.ones((4, size, size, channels))
        weights = jnp.ones((kernel, kernel, channels, channels))
        window = Window((1, 1), ((kernel // 2, kernel // 2),) * 2, 1)
        loss = lambda x, w, window=window: convolve(x, w, window, FASTER).sum()  # noqa: E731
        program = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(images, weights).compile()
        payload, *_ = serialize_executable.serialize(program)
        assert b"resnet_jax_convolution" in payload
