"""Residual blocks: a branch F, a shortcut that joins it with the input, and ReLU after that."""

from collections.abc import Callable

import jax
from flax import nnx

from resnet_jax.models.convolution import convolution
from resnet_jax.models.normalization import BatchNorm
from resnet_jax.models.shortcuts import shortcut as make_shortcut


class BasicBlock(nnx.Module):
    """Two 3×3 convolutions (He 2015, Fig. 5 left): ReLU(shortcut(x, F(x))).

    Args:
        in_channels: channels of the input.
        channels: filters of the branch; the output has as many.
        stride: of the first convolution.
        shortcut: kind of skip path, a key of `shortcuts.SHORTCUTS`.
        zero_gamma: start the last norm of the branch at γ = 0, so that F(x) = 0 (Goyal 2017, §5.1).
        conv, norm: how convolutions and norms are made.
        rngs: the stream `params` initialises the weights.
    """

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        stride: int = 1,
        shortcut: str = "B",
        zero_gamma: bool = False,
        conv: Callable[..., nnx.Conv] = convolution,
        norm: Callable[..., nnx.Module] = BatchNorm,
        rngs: nnx.Rngs,
    ) -> None:
        self.out_channels = channels
        self.conv1 = conv(in_channels, channels, 3, stride=stride, rngs=rngs)
        self.norm1 = norm(channels, rngs=rngs)
        self.conv2 = conv(channels, channels, 3, rngs=rngs)
        self.norm2 = norm(channels, initial_scale=0.0 if zero_gamma else 1.0, rngs=rngs)
        self.shortcut = make_shortcut(
            shortcut, in_channels, channels, stride, conv=conv, norm=norm, rngs=rngs
        )

    def branch(self, x: jax.Array) -> jax.Array:
        """F(x): float[batch, height / stride, width / stride, channels]."""
        x = nnx.relu(self.norm1(self.conv1(x)))
        return self.norm2(self.conv2(x))

    def __call__(self, x: jax.Array) -> jax.Array:
        """x: float[batch, height, width, in_channels]."""
        return nnx.relu(self.shortcut(x, self.branch(x)))


class BottleneckBlock(nnx.Module):
    """1×1, 3×3 and 1×1 convolutions (He 2015, Fig. 5 right): ReLU(shortcut(x, F(x))).

    Args:
        in_channels: channels of the input.
        channels: filters of the 3×3 convolution; the output has four times as many.
        stride: of the 3×3 convolution.
        shortcut: kind of skip path, a key of `shortcuts.SHORTCUTS`.
        zero_gamma: start the last norm of the branch at γ = 0, so that F(x) = 0 (Goyal 2017, §5.1).
        stride_in_1x1: stride in the first 1×1 convolution, as in He 2015, instead of in the 3×3.
        conv, norm: how convolutions and norms are made.
        rngs: the stream `params` initialises the weights.
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        stride: int = 1,
        shortcut: str = "B",
        zero_gamma: bool = False,
        stride_in_1x1: bool = False,
        conv: Callable[..., nnx.Conv] = convolution,
        norm: Callable[..., nnx.Module] = BatchNorm,
        rngs: nnx.Rngs,
    ) -> None:
        self.out_channels = out_channels = channels * self.expansion
        first_stride, second_stride = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = conv(in_channels, channels, 1, stride=first_stride, rngs=rngs)
        self.norm1 = norm(channels, rngs=rngs)
        self.conv2 = conv(channels, channels, 3, stride=second_stride, rngs=rngs)
        self.norm2 = norm(channels, rngs=rngs)
        self.conv3 = conv(channels, out_channels, 1, rngs=rngs)
        self.norm3 = norm(out_channels, initial_scale=0.0 if zero_gamma else 1.0, rngs=rngs)
        self.shortcut = make_shortcut(
            shortcut, in_channels, out_channels, stride, conv=conv, norm=norm, rngs=rngs
        )

    def branch(self, x: jax.Array) -> jax.Array:
        """F(x): float[batch, height / stride, width / stride, 4 * channels]."""
        x = nnx.relu(self.norm1(self.conv1(x)))
        x = nnx.relu(self.norm2(self.conv2(x)))
        return self.norm3(self.conv3(x))

    def __call__(self, x: jax.Array) -> jax.Array:
        """x: float[batch, height, width, in_channels]."""
        return nnx.relu(self.shortcut(x, self.branch(x)))


BLOCKS = {"basic": BasicBlock, "bottleneck": BottleneckBlock}
