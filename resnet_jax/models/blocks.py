"""Residual blocks: a branch of convolutions, put into a `Residual` in one of five orders."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from resnet_jax.models.branch import ORDERS, Branch, BranchInit, ConvSpec
from resnet_jax.models.choices import IllegalChoiceError, pick
from resnet_jax.models.convolution import convolution
from resnet_jax.models.normalization import BatchNorm, NoNorm
from resnet_jax.models.residual import Residual
from resnet_jax.models.shortcuts import OPTIONS, ProjectionShortcut
from resnet_jax.models.shortcuts import shortcut as make_shortcut
from resnet_jax.models.spec import BlockSpec
from resnet_jax.models.stochastic import stochastic_depth

Make = Callable[..., Any]


def _basic_layers(channels: int, stride: int, spec: BlockSpec) -> list[ConvSpec]:
    for field in ("groups", "bottleneck_width", "stride_in_1x1"):
        value, only = getattr(spec, field), getattr(BlockSpec, field)
        if value != only:
            raise IllegalChoiceError(field, value, f"{only}, for block 'basic'")
    return [ConvSpec(3, channels, stride), ConvSpec(3, channels)]


def _bottleneck_layers(channels: int, stride: int, spec: BlockSpec) -> list[ConvSpec]:
    width = channels * spec.bottleneck_width
    first, second = (stride, 1) if spec.stride_in_1x1 else (1, stride)
    return [
        ConvSpec(1, width, first),
        ConvSpec(3, width, second, spec.groups),
        ConvSpec(1, 4 * channels),
    ]


class ResidualBlock(Residual):
    """A `Residual` around a branch of convolutions.

    Args:
        layers: the convolutions of the branch as a function of (channels, stride, spec).
        in_channels: channels of the input.
        channels: filters of the block.
        spec: its fields.
        stride: of the block.
        first: it is the first block of a network: where the order activates before the branch, the
            skip path of this one is activated too (He 2016, appendix, "Implementation details").
        num_blocks: of the whole network, by which some branches are scaled at the start.
        conv, norm: how convolutions and norms are made.
        rngs: the stream `params` initialises the weights.
        **fields: of `BlockSpec`; they replace what `spec` has.

    Attributes:
        out_channels: channels of the output.

    Raises:
        IllegalChoiceError: an argument has no such value, or contradicts another.
    """

    def __init__(
        self,
        layers: Callable[[int, int, BlockSpec], list[ConvSpec]],
        in_channels: int,
        channels: int,
        spec: BlockSpec | None = None,
        *,
        stride: int = 1,
        first: bool = False,
        num_blocks: int = 1,
        conv: Make = convolution,
        norm: Make = BatchNorm,
        rngs: Any,
        **fields: Any,
    ) -> None:
        spec = replace(spec or BlockSpec(), **fields)
        order = pick("activation_order", spec.activation_order, ORDERS)
        init = BranchInit(spec.branch_init, num_blocks, spec.initial_scale)
        convolutions = layers(channels, stride, spec)
        self.out_channels = convolutions[-1].channels
        branch = Branch(in_channels, convolutions, spec, init, conv=conv, norm=norm, rngs=rngs)
        skip = make_shortcut(
            spec.shortcut,
            in_channels,
            self.out_channels,
            stride,
            conv=conv,
            # A projection of what is activated already is not normalised again.
            norm=NoNorm if order.norm == "pre" else norm,
            rngs=rngs,
            blur=spec.antialias,
            **{name: getattr(spec, name) for name in OPTIONS},
        )
        before = order.activation == "pre"
        super().__init__(
            branch,
            in_channels if order.norm == "pre" else self.out_channels,
            pass_key=True,
            norm=order.norm,
            activation=order.activation,
            make_norm=norm,
            shortcut=skip,
            activate_shortcut=before and (first or isinstance(skip, ProjectionShortcut)),
            scale=init.scale(self.out_channels),
            drop_path=stochastic_depth(spec) or 0.0,
            rngs=rngs,
        )


class BasicBlock(ResidualBlock):
    """Two 3×3 convolutions (He 2015, Fig. 5 left); arguments of `ResidualBlock` but `layers`."""

    def __init__(
        self, in_channels: int, channels: int, spec: BlockSpec | None = None, **options: Any
    ) -> None:
        super().__init__(_basic_layers, in_channels, channels, spec, **options)


class BottleneckBlock(ResidualBlock):
    """1×1, 3×3 and 1×1 convolutions (He 2015, Fig. 5 right), the last with four times the filters;
    arguments of `ResidualBlock` but `layers`."""

    def __init__(
        self, in_channels: int, channels: int, spec: BlockSpec | None = None, **options: Any
    ) -> None:
        super().__init__(_bottleneck_layers, in_channels, channels, spec, **options)


BLOCKS: dict[str, Callable[..., ResidualBlock]] = {
    "basic": BasicBlock,
    "bottleneck": BottleneckBlock,
}
