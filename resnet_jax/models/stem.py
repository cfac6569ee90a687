"""What comes before the first stage. All: float[batch, height, width, in_channels] to [..., channels].

The last convolution of a stem is followed by norm and ReLU unless the first block begins with them
(`branch.Order`).
"""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from resnet_jax.models.branch import Order
from resnet_jax.models.pooling import blur_pool, max_pool

Make = Callable[..., Any]


class Stem(nnx.Module):
    """One convolution.

    Args:
        in_channels, channels: channels.
        order: of the blocks.
        antialias: pool densely, then low-pass filter with the stride (Zhang 2019, §3).
        conv, norm: how layers are made.
        rngs: the stream `params`.
    """

    size, stride, padding, pools, zero_padding = 3, 1, 1, False, False

    def __init__(
        self,
        in_channels: int,
        channels: int,
        order: Order,
        *,
        antialias: bool,
        conv: Make,
        norm: Make,
        rngs: Any,
    ) -> None:
        self.antialias, self.activates = antialias, order.stem_activation
        self._build(in_channels, channels, conv, norm, rngs)
        self.norm = nnx.data(norm(channels, rngs=rngs) if order.stem_norm else None)

    def _build(self, in_channels: int, channels: int, conv: Make, norm: Make, rngs: Any) -> None:
        self.conv = conv(
            in_channels, channels, self.size, stride=self.stride, padding=self.padding, rngs=rngs
        )

    def convolve(self, x: jax.Array) -> jax.Array:
        """The convolutions, before the last norm."""
        return self.conv(x)

    @property
    def smallest_image(self) -> int:
        """Least height and width, in pixels, of which anything is left; all later layers keep a pixel."""
        return self.size - 2 * self.padding

    def windows(self) -> list[tuple[int, int]]:
        """(size, stride) of every sliding window, in order."""
        pools = [(3, 1), (3, 2)] if self.antialias else [(3, 2)]
        return self._convolution_windows() + (pools if self.pools else [])

    def _convolution_windows(self) -> list[tuple[int, int]]:
        return [(self.size, self.stride)]

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.convolve(x)
        if self.norm is not None:
            x = self.norm(x)
        if self.activates:
            x = nnx.relu(x)
        if not self.pools:
            return x
        pooled = max_pool(x, 1 if self.antialias else 2, self.zero_padding)
        return blur_pool(pooled, 2) if self.antialias else pooled


class CifarStem(Stem):
    """A 3×3 convolution at full resolution (He 2015, §4.2)."""


class ImageNetStem(Stem):
    """A 7×7 convolution and a 3×3 max pool, both with stride 2 (He 2015, Table 1)."""

    size, stride, padding, pools = 7, 2, 3, True


class BitStem(ImageNetStem):
    """As `imagenet`, with zeros around the max pool (Kolesnikov et al. 2020, released networks). It
    differs where no ReLU comes before the pool."""

    zero_padding = True


class DeepStem(Stem):
    """Three 3×3 convolutions, the first with stride 2, and the max pool (He 2019, "Bag of Tricks", Fig. 2b)."""

    pools = True

    def _build(self, in_channels: int, channels: int, conv: Make, norm: Make, rngs: Any) -> None:
        half = channels // 2
        self.conv1 = conv(in_channels, half, 3, stride=2, rngs=rngs)
        self.norm1 = norm(half, rngs=rngs)
        self.conv2 = conv(half, half, 3, rngs=rngs)
        self.norm2 = norm(half, rngs=rngs)
        self.conv3 = conv(half, channels, 3, rngs=rngs)

    def _convolution_windows(self) -> list[tuple[int, int]]:
        return [(3, 2), (3, 1), (3, 1)]

    def convolve(self, x: jax.Array) -> jax.Array:
        """The convolutions, before the last norm."""
        x = nnx.relu(self.norm1(self.conv1(x)))
        x = nnx.relu(self.norm2(self.conv2(x)))
        return self.conv3(x)


class PatchifyStem(Stem):
    """A 4×4 convolution with stride 4 (Liu et al. 2022, "A ConvNet for the 2020s", §2.2)."""

    size, stride, padding = 4, 4, 0


STEMS = {
    "cifar": CifarStem,
    "imagenet": ImageNetStem,
    "bit": BitStem,
    "deep": DeepStem,
    "patchify": PatchifyStem,
}
