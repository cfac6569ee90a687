"""Residual blocks: a branch of convolutions, put into a `Residual` in one of five orders."""

from collections.abc import Callable
from typing import Any

from resnet_jax.models.branch import ORDERS, Branch, BranchInit, ConvSpec
from resnet_jax.models.choices import IllegalChoiceError, pick
from resnet_jax.models.convolution import convolution
from resnet_jax.models.normalization import BatchNorm, NoNorm
from resnet_jax.models.residual import Residual
from resnet_jax.models.shortcuts import ProjectionShortcut
from resnet_jax.models.shortcuts import shortcut as make_shortcut
from resnet_jax.models.stochastic import SCALINGS, StochasticDepth

Make = Callable[..., Any]


def _basic_layers(channels, stride, groups, bottleneck_width, stride_in_1x1) -> list[ConvSpec]:
    for field, value, only in (
        ("groups", groups, 1),
        ("bottleneck_width", bottleneck_width, 1),
        ("stride_in_1x1", stride_in_1x1, False),
    ):
        if value != only:
            raise IllegalChoiceError(field, value, f"{only}, for block 'basic'")
    return [ConvSpec(3, channels, stride), ConvSpec(3, channels)]


def _bottleneck_layers(channels, stride, groups, bottleneck_width, stride_in_1x1) -> list[ConvSpec]:
    width = channels * bottleneck_width
    first, second = (stride, 1) if stride_in_1x1 else (1, stride)
    return [
        ConvSpec(1, width, first),
        ConvSpec(3, width, second, groups),
        ConvSpec(1, 4 * channels),
    ]


class ResidualBlock(Residual):
    """A `Residual` around a branch of convolutions.

    Args:
        layers: the convolutions of the branch as a function of (channels, stride, groups,
            bottleneck_width, stride_in_1x1).
        in_channels: channels of the input.
        channels: filters of the block.
        stride: of the block.
        activation_order: a key of `ORDERS`.
        shortcut: kind of skip path, a key of `shortcuts.SHORTCUTS`.
        shortcut_options: `gate_bias`, `shortcut_scale`, `branch_scale` or `shortcut_dropout`.
        first: it is the first block of a network: where the order activates before the branch, the
            skip path of this one is activated too (He 2016, appendix, "Implementation details").
        init: how the branch starts.
        survival_probability, stochastic_depth_scaling: of `StochasticDepth`; 1: none.
        groups: of the 3×3 convolution of a bottleneck (ResNeXt).
        bottleneck_width: filters of a bottleneck's 3×3 convolution, as a multiple of `channels`.
        stride_in_1x1: a bottleneck's stride is in the first 1×1 convolution, as in He 2015.
        squeeze_reduction, dropout, antialias: see `Branch`.
        conv, norm: how convolutions and norms are made.
        rngs: the stream `params` initialises the weights.

    Attributes:
        out_channels: channels of the output.

    Raises:
        IllegalChoiceError: an argument has no such value, or contradicts another.
    """

    def __init__(
        self,
        layers: Callable[..., list[ConvSpec]],
        in_channels: int,
        channels: int,
        *,
        stride: int = 1,
        activation_order: str = "original",
        shortcut: str = "B",
        shortcut_options: dict[str, float | None] | None = None,
        first: bool = False,
        init: BranchInit | None = None,
        survival_probability: float = 1.0,
        stochastic_depth_scaling: str = "test",
        groups: int = 1,
        bottleneck_width: int = 1,
        stride_in_1x1: bool = False,
        squeeze_reduction: int | None = None,
        dropout: float = 0.0,
        antialias: bool = False,
        conv: Make = convolution,
        norm: Make = BatchNorm,
        rngs: Any,
    ) -> None:
        order = pick("activation_order", activation_order, ORDERS)
        init = init or BranchInit()
        convolutions = layers(channels, stride, groups, bottleneck_width, stride_in_1x1)
        self.out_channels = convolutions[-1].channels
        branch = Branch(
            in_channels,
            convolutions,
            order,
            init=init,
            squeeze_reduction=squeeze_reduction,
            dropout=dropout,
            antialias=antialias,
            conv=conv,
            norm=norm,
            rngs=rngs,
        )
        skip = make_shortcut(
            shortcut,
            in_channels,
            self.out_channels,
            stride,
            conv=conv,
            # A projection of what is activated already is not normalised again.
            norm=NoNorm if order.norm == "pre" else norm,
            rngs=rngs,
            blur=antialias,
            **(shortcut_options or {}),
        )
        before = order.activation == "pre"
        pick("stochastic_depth_scaling", stochastic_depth_scaling, SCALINGS)
        stochastic = survival_probability != 1
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
            drop_path=(
                StochasticDepth(survival_probability, stochastic_depth_scaling)
                if stochastic
                else 0.0
            ),
            rngs=rngs,
        )


class BasicBlock(ResidualBlock):
    """Two 3×3 convolutions (He 2015, Fig. 5 left); arguments of `ResidualBlock` but `layers`."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, **options: Any) -> None:
        super().__init__(_basic_layers, in_channels, channels, **options)


class BottleneckBlock(ResidualBlock):
    """1×1, 3×3 and 1×1 convolutions (He 2015, Fig. 5 right), the last with four times the filters;
    arguments of `ResidualBlock` but `layers`."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, **options: Any) -> None:
        super().__init__(_bottleneck_layers, in_channels, channels, **options)


BLOCKS = {"basic": BasicBlock, "bottleneck": BottleneckBlock}
