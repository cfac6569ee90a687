"""The residual network: stem, stages of blocks, head."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from resnet_jax.models.blocks import BLOCKS
from resnet_jax.models.choices import IllegalChoiceError, pick
from resnet_jax.models.convolution import convolution as make_convolution
from resnet_jax.models.key_stream import KeyStream
from resnet_jax.models.normalization import BatchNorm


class CifarStem(nnx.Module):
    """One 3×3 convolution at full resolution (He 2015, §4.2)."""

    def __init__(self, in_channels: int, channels: int, *, conv, norm, rngs: nnx.Rngs) -> None:
        self.conv = conv(in_channels, channels, 3, rngs=rngs)
        self.norm = norm(channels, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return nnx.relu(self.norm(self.conv(x)))


class ImageNetStem(nnx.Module):
    """A 7×7 convolution and a 3×3 max pool, both with stride 2 (He 2015, Table 1)."""

    def __init__(self, in_channels: int, channels: int, *, conv, norm, rngs: nnx.Rngs) -> None:
        self.conv = conv(in_channels, channels, 7, stride=2, rngs=rngs)
        self.norm = norm(channels, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.norm(self.conv(x)))
        return nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))


STEMS = {"cifar": CifarStem, "imagenet": ImageNetStem}


class Stage(nnx.Module):
    """Blocks of one width; the first may change channels and resolution."""

    def __init__(
        self, make_block: Callable[..., nnx.Module], in_channels: int, num_blocks: int, stride: int
    ) -> None:
        first: Any = make_block(in_channels, stride=stride)
        self.out_channels = first.out_channels
        others = [make_block(self.out_channels) for _ in range(num_blocks - 1)]
        self.blocks = nnx.List([first, *others])

    def __call__(self, x: jax.Array) -> jax.Array:
        for block in self.blocks:
            x = block(x)
        return x


class ResNet(nnx.Module):
    """A residual network (He et al. 2015, "Deep Residual Learning for Image Recognition").

    Args:
        num_classes: size of the logits.
        stage_sizes: blocks per stage; every stage after the first halves the resolution.
        widths: filters per stage (a bottleneck block puts out four times as many).
        block: `basic` or `bottleneck`.
        shortcut: kind of skip path: `none`, `A`, `B` or `C`.
        stem: `cifar` or `imagenet`.
        in_channels: channels of the images.
        zero_gamma: start the last norm of every branch at γ = 0.
        stride_in_1x1: bottleneck blocks stride in their first 1×1 convolution.
        norm_momentum, norm_epsilon: of batch normalisation.
        norm_axis_name: mapped axis over which batch statistics are averaged.
        convolution: implementation, `native` or `loop_safe` (see `convolution.py`).
        dtype: compute type; parameters, statistics and logits stay float32.
        rngs: the stream `params` initialises the weights.

    Attributes:
        stem, stage1, stage2, …, head: the parts, by name.

    Raises:
        IllegalChoiceError: an argument has no such value, or contradicts another.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        stage_sizes: Sequence[int],
        widths: Sequence[int],
        block: str = "basic",
        shortcut: str = "B",
        stem: str = "imagenet",
        in_channels: int = 3,
        zero_gamma: bool = False,
        stride_in_1x1: bool = False,
        norm_momentum: float = 0.9,
        norm_epsilon: float = 1e-5,
        norm_axis_name: str | None = None,
        convolution: str = "native",
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        keys: Any = KeyStream(rngs.params())
        block_class = pick("block", block, BLOCKS)
        if len(stage_sizes) != len(widths):
            raise IllegalChoiceError("widths", tuple(widths), f"one a stage, so {len(stage_sizes)}")
        options = {"shortcut": shortcut, "zero_gamma": zero_gamma, "rngs": keys}
        if stride_in_1x1:
            if block != "bottleneck":
                raise IllegalChoiceError("stride_in_1x1", True, f"False, for block {block!r}")
            options["stride_in_1x1"] = True
        conv = partial(make_convolution, implementation=convolution, dtype=dtype)
        norm = partial(
            BatchNorm,
            momentum=norm_momentum,
            epsilon=norm_epsilon,
            axis_name=norm_axis_name,
            dtype=dtype,
        )

        self.stem = pick("stem", stem, STEMS)(
            in_channels, widths[0], conv=conv, norm=norm, rngs=keys
        )
        self.num_stages = len(stage_sizes)
        channels = widths[0]
        for number, (num_blocks, width) in enumerate(zip(stage_sizes, widths, strict=True), 1):
            make_block = partial(block_class, channels=width, conv=conv, norm=norm, **options)
            stride = 1 if number == 1 else 2
            stage = Stage(make_block, channels, num_blocks, stride)
            setattr(self, f"stage{number}", stage)
            channels = stage.out_channels
        self.head = nnx.Linear(channels, num_classes, rngs=keys)

    def features(self, x: jax.Array) -> dict[str, jax.Array]:
        """The output of the stem and of every stage, for use as a backbone.

        Args:
            x: float[batch, height, width, in_channels].

        Returns:
            `stem`, `stage1`, `stage2`, …: dtype[batch, h, w, channels], in this order.
        """
        outputs = {"stem": self.stem(x)}
        x = outputs["stem"]
        for number in range(1, self.num_stages + 1):
            x = outputs[f"stage{number}"] = getattr(self, f"stage{number}")(x)
        return outputs

    def __call__(self, x: jax.Array) -> jax.Array:
        """Classify images.

        Args:
            x: float[batch, height, width, in_channels], normalised.

        Returns:
            logits: float32[batch, num_classes].
        """
        last = self.features(x)[f"stage{self.num_stages}"]
        pooled = last.astype(jnp.promote_types(jnp.float32, last.dtype)).mean((1, 2))
        return self.head(pooled)
