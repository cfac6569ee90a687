"""Convolution: the layer that every block uses, and the implementations behind it.

`lax.conv_general_dilated` is the native one. XLA's CPU backend runs its two gradients 8 to 20
times slower inside a loop body (`lax.scan`, `lax.map`; jax issue 12868), because it takes the fast
path only for convolutions in the layout `b01f,01io->b01f`; and it multiplies with all the zeros of a
dilated gradient. `loop_safe_convolution` therefore states both gradients as dense forward
convolutions in that layout, or as matrix products, and theirs too. It has no forward-mode
derivative: Hessian-vector products are the gradient of a product with the gradient.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from resnet_jax.models.choices import IllegalChoiceError, pick

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_STANDARDISATION_EPSILON = 1e-8
Pairs = tuple[tuple[int, int], tuple[int, int]]


_forward = partial(lax.conv_general_dilated, dimension_numbers=_LAYOUT)


# A convolution and its two gradients are linear in both arguments, and the gradients of each are the
# others. So all three are defined, and derivatives of any order stay in the fast layout.


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _convolve(images, kernel, strides, padding: Pairs, groups):
    return _forward(images, kernel, strides, padding, feature_group_count=groups)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5))
def _image_gradient(gradient, kernel, image_size, strides, padding: Pairs, groups):
    # Pixels whose places differ by a multiple of the stride, a phase, meet the same entries of the
    # kernel, `stride` apart. So each phase is a dense convolution of the gradient with a part of the
    # kernel; one convolution computes all of them as channels, which are then put in their places
    # (a sub-pixel convolution: Shi et al. 2016, §3.1). With stride 1 there is one phase.
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
    phase_images = _forward(
        gradient,
        turned.reshape(*taps, out_channels // groups, -1),
        (1, 1),
        [
            (t - 1 - skip, extent + skip - n)
            for t, skip, extent, n in zip(taps, skipped, extents, gradient.shape[1:3], strict=True)
        ],
        feature_group_count=groups,
    )
    if tuple(strides) == (1, 1):
        return phase_images
    in_place = phase_images.reshape(-1, *extents, groups, *phases, in_group)
    in_place = in_place.transpose(0, 1, 4, 2, 5, 3, 6)
    unseen = [(0, s - n) for s, n in zip(strides, phases, strict=True)]
    in_place = jnp.pad(in_place, [(0, 0), (0, 0), unseen[0], (0, 0), unseen[1], (0, 0), (0, 0)])
    height, width = (extent * s for extent, s in zip(extents, strides, strict=True))
    images = in_place.reshape(-1, height, width, groups * in_group)
    rows, columns = (slice(m, m + n) for m, n in zip(margin, image_size, strict=True))
    return images[:, rows, columns]


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5))
def _kernel_gradient(images, gradient, kernel_size, strides, padding: Pairs, groups):
    if kernel_size == (1, 1) and padding == ((0, 0), (0, 0)) and groups == 1:
        seen = images[:, :: strides[0], :: strides[1]]
        pixels = [array.reshape(-1, array.shape[-1]) for array in (seen, gradient)]
        return jnp.matmul(pixels[0].T, pixels[1])[None, None]
    # A kernel entry is the correlation of the images with the gradient, summed over the batch: the
    # batch takes the place of the input channels. The channels stay beside the columns, and a step
    # to the next column is one over all of them: so the images are transposed as a matrix, which is
    # the cheapest way.
    batch, height, width, channels = images.shape
    in_group = channels // groups
    (top, bottom), (left, right) = (
        (low, k - 1 + (n - 1) * s + 1 - size - low)
        for k, (low, _), s, n, size in zip(
            kernel_size, padding, strides, gradient.shape[1:3], (height, width), strict=True
        )
    )
    rows = images.reshape(batch, height, width, groups, in_group).transpose(3, 1, 2, 4, 0)
    kernel_gradient = _forward(
        rows.reshape(groups, height, width * in_group, batch),
        gradient.transpose(1, 2, 0, 3),
        (1, 1),
        ((top, bottom), (left * in_group, right * in_group)),
        rhs_dilation=(strides[0], strides[1] * in_group),
        batch_group_count=groups,
    )
    return kernel_gradient.reshape(*kernel_size, in_group, -1)


def _convolve_backward(strides, padding: Pairs, groups, arguments, gradient):
    images, kernel = arguments
    how = strides, padding, groups
    return (
        _image_gradient(gradient, kernel, images.shape[1:3], *how),
        _kernel_gradient(images, gradient, kernel.shape[:2], *how),
    )


def _image_gradient_backward(image_size, strides, padding: Pairs, groups, arguments, images):
    del image_size
    gradient, kernel = arguments
    how = strides, padding, groups
    return (
        _convolve(images, kernel, *how),
        _kernel_gradient(images, gradient, kernel.shape[:2], *how),
    )


def _kernel_gradient_backward(kernel_size, strides, padding: Pairs, groups, arguments, kernel):
    del kernel_size
    images, gradient = arguments
    how = strides, padding, groups
    return (
        _image_gradient(gradient, kernel, images.shape[1:3], *how),
        _convolve(images, kernel, *how),
    )


def _keeping_arguments(function: Any) -> Callable[..., Any]:
    return lambda first, second, *how: (function(first, second, *how), (first, second))


_convolve.defvjp(_keeping_arguments(_convolve), _convolve_backward)
_image_gradient.defvjp(_keeping_arguments(_image_gradient), _image_gradient_backward)
_kernel_gradient.defvjp(_keeping_arguments(_kernel_gradient), _kernel_gradient_backward)


def loop_safe_convolution(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] = (1, 1),
    rhs_dilation: Sequence[int] = (1, 1),
    feature_group_count: int = 1,
    **options: Any,
) -> jax.Array:
    """A 2-D convolution, equal to `lax.conv_general_dilated`, whose gradients are fast on CPUs.

    The result must have at least one pixel.

    Args:
        lhs: float[batch, height, width, in_channels].
        rhs: float[kernel_height, kernel_width, in_channels / groups, out_channels].
        window_strides: two strides.
        padding: explicit (low, high) zeros for height and width.
        lhs_dilation, rhs_dilation: steps between pixels, and between entries of the kernel. Zeros
            are put between them, which costs what a dense convolution of that size costs.
        feature_group_count: groups of channels that do not see each other.
        **options: what `nnx.Conv` also passes (precision, dimension numbers, …); the layout is
            fixed and the rest has no effect on the result in float32.
    """
    del options
    (top, bottom), (left, right) = padding
    pairs = ((top, bottom), (left, right))
    lhs, rhs = _dilated(lhs, (0, *lhs_dilation, 0)), _dilated(rhs, (*rhs_dilation, 0, 0))
    return _convolve(lhs, rhs, tuple(window_strides), pairs, feature_group_count)


def _dilated(array: jax.Array, dilation: Sequence[int]) -> jax.Array:
    if max(dilation) == 1:
        return array
    return lax.pad(array, jnp.zeros((), array.dtype), [(0, 0, max(d - 1, 0)) for d in dilation])


IMPLEMENTATIONS: dict[str, Callable[..., jax.Array]] = {
    "native": lax.conv_general_dilated,
    "loop_safe": loop_safe_convolution,
}


def automatic_implementation(backend: str) -> str:
    """The implementation to use on a backend of JAX.

    On CPU `loop_safe` is faster than the native one outside of loops and far faster inside them
    (docs/performance.md).
    """
    return "loop_safe" if backend == "cpu" else "native"


@cache  # The same function every time, so that equal networks have equal graphs.
def _standardised(convolve: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """`convolve` with every filter of the kernel shifted and scaled to mean 0 and deviation 1."""

    def standardised(lhs: jax.Array, rhs: jax.Array, *args: Any, **options: Any) -> jax.Array:
        kernel = rhs.astype(jnp.promote_types(jnp.float32, rhs.dtype))
        kernel = kernel - kernel.mean((0, 1, 2))
        kernel = kernel * lax.rsqrt(jnp.square(kernel).mean((0, 1, 2)) + _STANDARDISATION_EPSILON)
        return convolve(lhs, kernel.astype(rhs.dtype), *args, **options)

    return standardised


def convolution(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    groups: int = 1,
    padding: int | None = None,
    gain: float = 1.0,
    use_bias: bool = False,
    weight_standardization: bool = False,
    implementation: str = "native",
    dtype: Any = None,
    rngs: nnx.Rngs,
) -> nnx.Conv:
    """A square convolution.

    Weights are float32, drawn from N(0, 2 / fan_out): He et al. 2015, "Delving Deep into
    Rectifiers", eq. 14, as in the authors' released residual networks.

    Args:
        in_channels, out_channels: channels.
        kernel_size: height and width of the kernel.
        stride: step in both directions.
        groups: of channels that do not see each other (Xie et al. 2017, "Aggregated Residual
            Transformations").
        padding: zeros on every side; None: `kernel_size // 2`.
        gain: factor of the initial weights.
        use_bias: add a bias, 0 at the start.
        weight_standardization: convolve with standardised filters (Qiao et al. 2019, eq. 2–4).
        implementation: `native` or `loop_safe`.
        dtype: compute type; `None` takes that of the input.
        rngs: the stream `params` initialises the kernel.

    Raises:
        IllegalChoiceError: no such implementation, or groups that do not divide the channels.
    """
    pad = kernel_size // 2 if padding is None else padding
    if in_channels % groups or out_channels % groups:
        allowed = f"a divisor of the convolution's channels, {in_channels} and {out_channels}"
        raise IllegalChoiceError("groups", groups, allowed)
    convolve = pick("convolution", implementation, IMPLEMENTATIONS)
    initialise = jax.nn.initializers
    return nnx.Conv(
        in_channels,
        out_channels,
        (kernel_size, kernel_size),
        strides=(stride, stride),
        padding=((pad, pad), (pad, pad)),
        feature_group_count=groups,
        use_bias=use_bias,
        dtype=dtype,
        kernel_init=(
            initialise.variance_scaling(2.0 * gain**2, "fan_out", "normal")
            if gain
            else initialise.zeros
        ),
        conv_general_dilated=_standardised(convolve) if weight_standardization else convolve,
        rngs=rngs,
    )
