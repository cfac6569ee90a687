"""Convolution: the layer that every block uses, and the implementations behind it.

`lax.conv_general_dilated` is the native one. XLA's CPU backend runs its two gradients 8 to 20
times slower inside a loop body (`lax.scan`, `lax.map`; jax issue 12868), because it takes the fast
path only for convolutions in the layout `b01f,01io->b01f`. `loop_safe_convolution` therefore states
both gradients as forward convolutions in that layout. It has no forward-mode derivative, so
Hessian-vector products need the native one.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from resnet_jax.models.choices import IllegalChoiceError, pick

_LAYOUT = ("NHWC", "HWIO", "NHWC")
Pairs = tuple[tuple[int, int], tuple[int, int]]


def _forward(images, kernel, strides, padding, image_dilation=(1, 1), kernel_dilation=(1, 1)):
    return lax.conv_general_dilated(
        images, kernel, strides, padding, image_dilation, kernel_dilation, _LAYOUT
    )


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _loop_safe(images, kernel, strides, padding):
    return _forward(images, kernel, strides, padding)


def _loop_safe_forward(images, kernel, strides, padding):
    return _forward(images, kernel, strides, padding), (images, kernel)


def _loop_safe_backward(strides, padding: Pairs, residuals, gradient):
    images, kernel = residuals
    image_size, kernel_size = images.shape[1:3], kernel.shape[:2]
    # Extent of the output gradient once `stride - 1` zeros stand between its pixels.
    spread = [(n - 1) * s + 1 for n, s in zip(gradient.shape[1:3], strides, strict=True)]

    # An image pixel receives from every window that covered it: a full correlation of the spread
    # gradient with the kernel turned by 180 degrees and its channels exchanged.
    image_padding = [
        (k - 1 - low, size + low - spread_size)
        for k, (low, _), size, spread_size in zip(
            kernel_size, padding, image_size, spread, strict=True
        )
    ]
    turned = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    image_gradient = _forward(gradient, turned, (1, 1), image_padding, image_dilation=strides)

    # A kernel entry is the correlation of the images with the gradient, summed over the batch: the
    # batch takes the place of the input channels and the channels that of the batch.
    kernel_padding = [
        (low, k - 1 + spread_size - size - low)
        for k, (low, _), size, spread_size in zip(
            kernel_size, padding, image_size, spread, strict=True
        )
    ]
    kernel_gradient = _forward(
        images.transpose(3, 1, 2, 0),
        gradient.transpose(1, 2, 0, 3),
        (1, 1),
        kernel_padding,
        kernel_dilation=strides,
    )
    return image_gradient, kernel_gradient.transpose(1, 2, 0, 3)


_loop_safe.defvjp(_loop_safe_forward, _loop_safe_backward)


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
    """A 2-D convolution, equal to `lax.conv_general_dilated`, whose gradients are fast in loops.

    Args:
        lhs: float[batch, height, width, in_channels].
        rhs: float[kernel_height, kernel_width, in_channels, out_channels].
        window_strides: two strides.
        padding: explicit (low, high) zeros for height and width.
        lhs_dilation, rhs_dilation: must be 1.
        feature_group_count: must be 1.
        **options: what `nnx.Conv` also passes (precision, dimension numbers, …); the layout is
            fixed and the rest has no effect on the result in float32.

    Raises:
        IllegalChoiceError: grouped or dilated; use the native convolution for those.
    """
    del options
    dilation = (*lhs_dilation, *rhs_dilation)
    if feature_group_count != 1 or any(d != 1 for d in dilation):
        raise IllegalChoiceError(
            "convolution", "loop_safe", "native, for grouped or dilated kernels"
        )
    (top, bottom), (left, right) = padding
    return _loop_safe(lhs, rhs, tuple(window_strides), ((top, bottom), (left, right)))


IMPLEMENTATIONS: dict[str, Callable[..., jax.Array]] = {
    "native": lax.conv_general_dilated,
    "loop_safe": loop_safe_convolution,
}


def automatic_implementation(backend: str) -> str:
    """The implementation to use on a backend of JAX.

    On CPU `loop_safe` is as fast as the native one outside of loops and far faster inside them
    (docs/performance.md).
    """
    return "loop_safe" if backend == "cpu" else "native"


def convolution(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    implementation: str = "native",
    dtype: Any = None,
    rngs: nnx.Rngs,
) -> nnx.Conv:
    """A square convolution without bias, padded by `kernel_size // 2` on every side.

    Weights are float32, drawn from N(0, 2 / fan_out): He et al. 2015, "Delving Deep into
    Rectifiers", eq. 14, as in the authors' released residual networks.

    Args:
        in_channels, out_channels: channels.
        kernel_size: height and width of the kernel.
        stride: step in both directions.
        implementation: `native` or `loop_safe`.
        dtype: compute type; `None` takes that of the input.
        rngs: the stream `params` initialises the kernel.

    Raises:
        IllegalChoiceError: no such implementation.
    """
    pad = kernel_size // 2
    return nnx.Conv(
        in_channels,
        out_channels,
        (kernel_size, kernel_size),
        strides=(stride, stride),
        padding=((pad, pad), (pad, pad)),
        use_bias=False,
        dtype=dtype,
        kernel_init=jax.nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
        conv_general_dilated=pick("convolution", implementation, IMPLEMENTATIONS),
        rngs=rngs,
    )
