"""Convolution: the layer that every block uses, and its implementations."""

import os
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from resnet_jax.models import loop_safe, onednn
from resnet_jax.models.choices import IllegalChoiceError, pick
from resnet_jax.models.passes import Passes, Window, convolve

_STANDARDISATION_EPSILON = 1e-8
# Names the implementation of those that leave it to us.
VARIABLE = "RESNET_JAX_CONVOLUTION"


def _convolution_by(
    passes: Passes,
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] = (1, 1),
    rhs_dilation: Sequence[int] = (1, 1),
    feature_group_count: int = 1,
    **options: Any,
) -> jax.Array:
    """A 2-D convolution, equal to `lax.conv_general_dilated`, by `passes`.

    The result must have at least one pixel.

    Args:
        passes: what computes it and its gradients.
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
    rows, columns = window_strides
    window = Window((rows, columns), ((top, bottom), (left, right)), feature_group_count)
    lhs, rhs = _dilated(lhs, (0, *lhs_dilation, 0)), _dilated(rhs, (*rhs_dilation, 0, 0))
    return convolve(lhs, rhs, window, passes)


def _dilated(array: jax.Array, dilation: Sequence[int]) -> jax.Array:
    if max(dilation) == 1:
        return array
    return lax.pad(array, jnp.zeros((), array.dtype), [(0, 0, max(d - 1, 0)) for d in dilation])


def _by_onednn(*args: Any, **options: Any) -> jax.Array:
    return _convolution_by(onednn.fastest_passes(), *args, **options)


# XLA's own; XLA's with other gradients, for CPUs; and oneDNN's, for CPUs whose jaxlib has it.
IMPLEMENTATIONS: dict[str, Callable[..., jax.Array]] = {
    "native": lax.conv_general_dilated,
    "loop_safe": partial(_convolution_by, loop_safe.PASSES),
    "onednn": _by_onednn,
}


def automatic_implementation(backend: str, dtype: str = "float32", devices: int = 1) -> str:
    """The implementation to use (docs/performance.md).

    That is `native` but on a CPU. There it is `onednn`, if a separate process found it right with this
    jaxlib and processor, which takes some seconds once (`resnet_jax.onednn_check`); else `loop_safe`.
    `$RESNET_JAX_CONVOLUTION` names another.

    Args:
        backend: of JAX.
        dtype: the network's compute type.
        devices: that one `jax.jit` spreads its arrays over. XLA would collect the images of all for
            oneDNN; in `jax.shard_map` and `jax.pmap` each device has its own.
    """
    named = os.environ.get(VARIABLE) or "auto"
    if named != "auto":
        return named
    if backend != "cpu":
        return "native"
    # The models alone need none of it.
    from resnet_jax.onednn_check import onednn_fault

    return "loop_safe" if devices > 1 or onednn_fault(dtype) else "onednn"


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
        implementation: a name in `IMPLEMENTATIONS`.
        dtype: compute type; `None` takes the input's.
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
