"""Our convolutions equal XLA's, gradients too, alone and under transformations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from resnet_jax.models import onednn
from resnet_jax.models.convolution import IMPLEMENTATIONS, convolution
from resnet_jax.onednn_check import onednn_fault

NHWC = ("NHWC", "HWIO", "NHWC")


def native(images, kernel, strides, padding, dilations=((1, 1), (1, 1)), groups=1):
    return lax.conv_general_dilated(
        images, kernel, strides, padding, *dilations, NHWC, feature_group_count=groups
    )


@pytest.fixture(params=["loop_safe", "onednn"])
def convolve(request, monkeypatch):
    """Of the same arguments as `native`; by jaxlib's oneDNN also where the extension is installed."""
    monkeypatch.setattr(onednn, "fastest_passes", lambda: onednn.PASSES)
    if request.param == "onednn" and (fault := onednn_fault("float32")):
        pytest.skip(fault)

    def run(images, kernel, strides, padding, dilations=((1, 1), (1, 1)), groups=1):
        implementation = IMPLEMENTATIONS[request.param]
        return implementation(
            images, kernel, strides, padding, *dilations, feature_group_count=groups
        )

    run.name = request.param
    return run


# The fixture has no state.
several = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def problems(draw):
    size = st.integers(1, 9)
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    strides = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    pads = st.tuples(st.integers(0, 3), st.integers(0, 3))
    padding = draw(st.tuples(pads, pads))
    steps = st.sampled_from([1, 1, 2, 3])
    dilations = draw(st.tuples(*[st.tuples(steps, steps)] * 2))
    least = [
        (k - 1) * d + 1 - sum(p) for k, d, p in zip(kernel, dilations[1], padding, strict=True)
    ]
    image = tuple(max(draw(size), n) for n in least)
    batch, inputs, outputs = draw(st.tuples(*[st.integers(1, 4)] * 3))
    groups = draw(st.integers(1, 3))
    shapes = (batch, *image, groups * inputs), (*kernel, inputs, groups * outputs)
    return *shapes, strides, padding, dilations, groups


@several
@given(problem=problems())
def test_equals_native_with_both_gradients(convolve, problem):
    image_shape, kernel_shape, *how = problem
    keys = jax.random.split(jax.random.key(0), 3)
    images = jax.random.normal(keys[0], image_shape)
    kernel = jax.random.normal(keys[1], kernel_shape)
    expected, native_vjp = jax.vjp(lambda x, w: native(x, w, *how), images, kernel)
    actual, vjp = jax.vjp(lambda x, w: convolve(x, w, *how), images, kernel)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
    cotangent = jax.random.normal(keys[2], expected.shape)
    # Rounding grows with the absolute values that are summed.
    sizes = jax.vjp(lambda x, w: native(x, w, *how), abs(images), abs(kernel))[1](abs(cotangent))
    for ours, theirs, size in zip(vjp(cotangent), native_vjp(cotangent), sizes, strict=True):
        assert np.all(np.abs(ours - theirs) <= 2e-5 + 2e-6 * size)


@pytest.mark.parametrize(
    ("groups", "inputs", "outputs"), [(6, 12, 5), (8, 4, 4), (3, 12, 2), (2, 40, 3), (70, 1, 1)]
)
def test_groups_of_any_width(convolve, groups, inputs, outputs):
    """`loop_safe` merges some of them, all or none."""
    keys = jax.random.split(jax.random.key(0), 3)
    images = jax.random.normal(keys[0], (2, 6, 5, groups * inputs))
    kernel = jax.random.normal(keys[1], (3, 2, inputs, groups * outputs))
    how = (2, 1), ((1, 1), (0, 1)), ((1, 1), (1, 1)), groups
    expected, native_vjp = jax.vjp(lambda x, w: native(x, w, *how), images, kernel)
    actual, vjp = jax.vjp(lambda x, w: convolve(x, w, *how), images, kernel)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)
    cotangent = jax.random.normal(keys[2], expected.shape)
    for ours, theirs in zip(vjp(cotangent), native_vjp(cotangent), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@settings(several, max_examples=8)
@given(problem=problems())
def test_gradients_of_the_gradients_equal_native_ones(convolve, problem):
    image_shape, kernel_shape, *how = problem
    keys = jax.random.split(jax.random.key(0), 5)
    images = jax.random.normal(keys[0], image_shape)
    kernel = jax.random.normal(keys[1], kernel_shape)
    shape = jax.eval_shape(lambda: native(images, kernel, *how)).shape
    cotangent = jax.random.normal(keys[2], shape)
    directions = jax.random.normal(keys[3], image_shape), jax.random.normal(keys[4], kernel_shape)

    def second_order(convolution):
        def along(images, kernel, cotangent):
            gradients = jax.vjp(convolution, images, kernel)[1](cotangent)
            return sum(map(jnp.vdot, gradients, directions))

        return jax.grad(along, (0, 1, 2))(images, kernel, cotangent)

    ours = second_order(lambda x, w: convolve(x, w, *how))
    theirs = second_order(lambda x, w: native(x, w, *how))
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-4)


def test_gradients_under_vmap_and_scan(convolve):
    images = jax.random.normal(jax.random.key(0), (3, 2, 7, 7, 4))
    kernels = jax.random.normal(jax.random.key(1), (3, 3, 3, 4, 4))

    def loss(convolution):
        def chain(kernels, x):
            step = lambda x, w: (jnp.tanh(convolution(x, w, (1, 1), ((1, 1), (1, 1)))), None)  # noqa: E731
            return jnp.sum(jnp.square(lax.scan(step, x, kernels)[0]))

        return jax.vmap(jax.grad(chain), (None, 0))(kernels, images)

    np.testing.assert_allclose(loss(convolve), loss(native), rtol=2e-4, atol=2e-4)


def test_bfloat16_gradients_have_the_type_of_their_arguments(convolve):
    layer = convolution(3, 4, 3, stride=2, implementation=convolve.name, dtype=jnp.bfloat16,
                        rngs=nnx.Rngs(0))  # fmt: skip
    graphdef, params = nnx.split(layer)
    grad = jax.grad(lambda p, x: nnx.merge(graphdef, p)(x).astype(jnp.float32).sum())
    gradient = grad(params, jnp.ones((2, 5, 5, 3)))
    assert gradient["kernel"].get_value().dtype == jnp.float32


# Sizes of the networks: 3×3 and 7×7 with their strides, the 1×1 of a bottleneck and of a shortcut.
LAYERS = [(3, 1, 1), (3, 2, 1), (7, 2, 3), (1, 1, 0), (1, 2, 0)]


def gradients(convolution, layer, dtype):
    """Result and gradients of a layer: (size, stride, padding), 8 images of odd size."""
    size, stride, pad = layer
    keys = jax.random.split(jax.random.key(0), 3)
    images = jax.random.normal(keys[0], (8, 11, 9, 6), dtype)
    kernel = jax.random.normal(keys[1], (size, size, 6, 4), dtype)
    run = lambda x, w: convolution(x, w, (stride, stride), ((pad, pad), (pad, pad)))  # noqa: E731
    result, vjp = jax.vjp(run, images, kernel)
    return result, *vjp(jax.random.normal(keys[2], result.shape, dtype))


@pytest.mark.parametrize("layer", LAYERS)
def test_layers_in_double_precision(x64, convolve, layer):
    for ours, theirs in zip(
        gradients(convolve, layer, float), gradients(native, layer, float), strict=True
    ):
        assert ours.dtype == jnp.float64
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("layer", LAYERS)
def test_layers_in_bfloat16(convolve, layer):
    """As near to the result in float32 as the native one, within a factor."""
    exact = gradients(native, layer, jnp.float32)
    ours = gradients(convolve, layer, jnp.bfloat16)
    theirs = gradients(native, layer, jnp.bfloat16)
    for a, b, c in zip(ours, theirs, exact, strict=True):
        assert a.dtype == jnp.bfloat16
        error, native_error = (np.abs(np.asarray(x, np.float32) - c).max() for x in (a, b))
        assert error <= 2 * native_error + 1e-3


@pytest.mark.parametrize("layer", LAYERS)
def test_layers_under_vmap_of_both_remat_and_a_mesh(convolve, layer):
    size, stride, pad = layer
    images = jax.random.normal(jax.random.key(0), (3, 8, 9, 9, 4))
    kernels = jax.random.normal(jax.random.key(1), (3, size, size, 4, 4))

    def squares(convolution):
        def one(x, w):
            y = convolution(x, w, (stride, stride), ((pad, pad), (pad, pad)))
            return jnp.sum(jnp.square(y)) / y.size

        return jax.vmap(jax.grad(jax.checkpoint(one), (0, 1)))

    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    split = NamedSharding(mesh, PartitionSpec(None, "data"))
    expected = squares(native)(images, kernels)
    for x in (images, jax.device_put(images, split)):
        for ours, theirs in zip(jax.jit(squares(convolve))(x, kernels), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_standardised_filters_have_mean_0_and_deviation_1():
    """One filter at a time, as seen by an impulse."""
    layer = convolution(4, 6, 3, groups=2, weight_standardization=True, rngs=nnx.Rngs(0))
    layer.kernel.set_value(layer.kernel.get_value() * 3 + 1)
    kernel = np.asarray(layer.kernel.get_value())
    mean, std = kernel.mean((0, 1, 2)), kernel.std((0, 1, 2))
    x = jax.random.normal(jax.random.key(1), (2, 5, 5, 4))
    expected = native(x, (kernel - mean) / std, (1, 1), ((1, 1), (1, 1)), groups=2)
    np.testing.assert_allclose(layer(x), expected, atol=1e-4)


def test_devices_of_pmap_and_shard_map_compute_their_own(convolve):
    images = jax.random.normal(jax.random.key(0), (16, 7, 7, 6))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 6, 4))
    square = lambda x, w: jnp.sum(jnp.square(convolve(x, w, (1, 1), ((1, 1), (1, 1)))))  # noqa: E731
    expected = jax.grad(square, (0, 1))(images, kernel)
    of_images, of_kernels = jax.pmap(jax.grad(square, (0, 1)), in_axes=(0, None))(
        images.reshape(8, 2, 7, 7, 6), kernel
    )
    np.testing.assert_allclose(of_images.reshape(images.shape), expected[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(of_kernels.sum(0), expected[1], rtol=1e-4, atol=1e-3)

    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    split, whole = PartitionSpec("data"), PartitionSpec()

    def both(x, w):
        of_x, of_w = jax.grad(square, (0, 1))(x, w)
        return of_x, lax.psum(of_w, "data")

    sharded = jax.shard_map(
        both, mesh=mesh, in_specs=(split, whole), out_specs=(split, whole), check_vma=False
    )
    for ours, theirs in zip(jax.jit(sharded)(images, kernel), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 9), (2, 5)])
def test_images_smaller_than_the_kernel(convolve, size):
    images = jax.random.normal(jax.random.key(0), (4, *size, 6))
    kernel = jax.random.normal(jax.random.key(1), (5, 3, 6, 4))
    how = (1, 2), ((2, 2), (1, 1))
    expected, native_vjp = jax.vjp(lambda x, w: native(x, w, *how), images, kernel)
    actual, vjp = jax.vjp(lambda x, w: convolve(x, w, *how), images, kernel)
    np.testing.assert_allclose(actual, expected, atol=1e-4)
    for ours, theirs in zip(vjp(expected), native_vjp(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-3)


def test_small_convolutions_call_no_onednn_of_jaxlib_and_large_ones_do(monkeypatch):
    monkeypatch.setattr(onednn, "passes_of_onednn", lambda: onednn.PASSES)
    onednn.fastest_passes.cache_clear()
    for batch, called in ((2, False), (128, True)):
        images, kernel = jnp.ones((batch, 32, 32, 16)), jnp.ones((3, 3, 16, 16))
        square = lambda x, w: IMPLEMENTATIONS["onednn"](x, w, (1, 1), ((1, 1), (1, 1))).sum()  # noqa: E731
        program = jax.make_jaxpr(jax.grad(square, (0, 1)))(images, kernel)
        assert ("__onednn$convolution" in str(program)) is called
    onednn.fastest_passes.cache_clear()
