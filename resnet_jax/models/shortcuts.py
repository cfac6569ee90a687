"""The skip path of a residual block, one class a kind.

A shortcut is built from the explicit dimensions (in_channels, out_channels, stride), never by
comparing the shapes of two arrays, and is called as `shortcut(x, branch)`, where x is the input of
the block and `branch` the output F(x) of its residual branch. It returns the two joined: for most
kinds, their sum.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from resnet_jax.models.choices import IllegalChoiceError, pick
from resnet_jax.models.convolution import convolution
from resnet_jax.models.normalization import BatchNorm


def _changes_shape(in_channels: int, out_channels: int, stride: int) -> bool:
    return stride != 1 or in_channels != out_channels


class NoShortcut(nnx.Module):
    """`none`: the plain net, y = F(x) (He 2015, §3.3)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, **layers: Any) -> None:
        del in_channels, out_channels, stride, layers

    def __call__(self, x: jax.Array, branch: jax.Array) -> jax.Array:
        del x
        return branch


class ZeroPadShortcut(nnx.Module):
    """`A`: y = F(x) + pad(x[::stride, ::stride]), without parameters (He 2015, §3.3, option A).

    The extra channels are zeros, half of them before and half behind those of x, as in the widely
    used CIFAR weights.

    Raises:
        IllegalChoiceError: the block has fewer output than input channels.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, **layers: Any) -> None:
        del layers
        if out_channels < in_channels:
            raise IllegalChoiceError(
                "shortcut", "A", f"B or C, where channels shrink ({in_channels} to {out_channels})"
            )
        self.stride = stride
        self.extra_channels = out_channels - in_channels

    def __call__(self, x: jax.Array, branch: jax.Array) -> jax.Array:
        x = x[:, :: self.stride, :: self.stride, :]
        before = self.extra_channels // 2
        return branch + jnp.pad(x, ((0, 0), (0, 0), (0, 0), (before, self.extra_channels - before)))


class ProjectionShortcut(nnx.Module):
    """`C`: y = F(x) + BN(W_s x) in every block; W_s is a 1×1 convolution (He 2015, eq. 2, option C)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        *,
        conv: Callable[..., nnx.Conv] = convolution,
        norm: Callable[..., nnx.Module] = BatchNorm,
        rngs: nnx.Rngs,
    ) -> None:
        self.conv = conv(in_channels, out_channels, 1, stride=stride, rngs=rngs)
        self.norm = norm(out_channels, rngs=rngs)

    def __call__(self, x: jax.Array, branch: jax.Array) -> jax.Array:
        return branch + self.norm(self.conv(x))


class ProjectionWhereShapeChanges(nnx.Module):
    """`B`: as `C` where the block changes channels or resolution, else y = F(x) + x (He 2015, option B)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, **layers: Any) -> None:
        changes = _changes_shape(in_channels, out_channels, stride)
        self.projection = nnx.data(
            ProjectionShortcut(in_channels, out_channels, stride, **layers) if changes else None
        )

    def __call__(self, x: jax.Array, branch: jax.Array) -> jax.Array:
        return branch + x if self.projection is None else self.projection(x, branch)


SHORTCUTS = {
    "none": NoShortcut,
    "A": ZeroPadShortcut,
    "B": ProjectionWhereShapeChanges,
    "C": ProjectionShortcut,
}


def shortcut(
    kind: str, in_channels: int, out_channels: int, stride: int, **layers: Any
) -> nnx.Module:
    """The shortcut named `kind` for a block of these dimensions.

    Args:
        kind: `none`, `A`, `B` or `C`.
        in_channels, out_channels: channels of the block's input and output.
        stride: of the block.
        **layers: `conv`, `norm` (how layers are made) and `rngs`.

    Raises:
        IllegalChoiceError: no such kind, or one that cannot join these dimensions.
    """
    return pick("shortcut", kind, SHORTCUTS)(in_channels, out_channels, stride, **layers)
