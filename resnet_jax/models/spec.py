"""The fields of a block and of a network: each is declared here once, with its default and its meaning."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class BlockSpec:
    """What a residual block is made of.

    Attributes:
        activation_order: where it normalises and activates, a key of `branch.ORDERS`.
        shortcut: kind of skip path, a key of `shortcuts.SHORTCUTS`.
        gate_bias, shortcut_scale, branch_scale, shortcut_dropout: of the shortcuts that have them;
            None takes the paper's.
        branch_init: how the branch starts: `he`, `zero_gamma`, `fixup`, `skipinit`, `rezero` or
            `layerscale` (`branch.BranchInit`).
        initial_scale: start of the learned scale of `skipinit` and `layerscale`.
        groups: of the 3×3 convolution of a bottleneck (Xie et al. 2017).
        bottleneck_width: filters of a bottleneck's 3×3 convolution, as a multiple of the block's.
        stride_in_1x1: a bottleneck's stride is in the first 1×1 convolution, as in He 2015.
        squeeze_reduction: r of squeeze-and-excitation at the end of the branch; None: there is none.
        dropout: rate in the branch, before its last convolution (Zagoruyko & Komodakis 2016, §2.4).
        survival_probability: of the branch in stochastic depth; 1: no stochastic depth. A network has p_L,
            for its last block: block l of L survives with 1 − l/L (1 − p_L) (Huang et al. 2016, eq. 4).
        stochastic_depth_scaling: `test` or `train`, see `stochastic.StochasticDepth`.
        antialias: low-pass filters before strides (Zhang 2019, §3).
    """

    activation_order: str = "original"
    shortcut: str = "B"
    gate_bias: float | None = None
    shortcut_scale: float | None = None
    branch_scale: float | None = None
    shortcut_dropout: float | None = None
    branch_init: str = "he"
    initial_scale: float | None = None
    groups: int = 1
    bottleneck_width: int = 1
    stride_in_1x1: bool = False
    squeeze_reduction: int | None = None
    dropout: float = 0.0
    survival_probability: float = 1.0
    stochastic_depth_scaling: str = "test"
    antialias: bool = False


@dataclass(frozen=True, kw_only=True)
class NetworkSpec(BlockSpec):
    """What a network is made of: the fields of its blocks, and its own.

    Attributes:
        num_classes: size of the logits; 0: no classifier, the network returns the pooled features.
        stage_sizes: blocks per stage; every stage after the first halves the resolution.
        widths: filters per stage (a bottleneck block puts out four times as many).
        block: `basic` or `bottleneck`.
        stem: `cifar`, `imagenet`, `bit`, `deep` or `patchify` (`stem.py`).
        in_channels: channels of the images.
        width_factor: multiplies `widths`, not the stem (Zagoruyko & Komodakis 2016, Table 1).
        norm: `batch`, `frozen_batch`, `group`, `layer` or `none` (`normalization.norm_factory`).
        norm_momentum, norm_epsilon, norm_groups: of the norms.
        norm_axis_name: mapped axis over which batch statistics are averaged.
        weight_standardization: convolve with standardised filters.
        convolution: implementation, a name in `convolution.IMPLEMENTATIONS`.
        scan_blocks: run the identical blocks of a stage as one loop; parameters are then stacked
            (`stage.py`). None: where every stage has `stage.SCAN_FROM` blocks or more.
        remat: `none`, `block` or `stage`: what is computed again in the backward pass.
        dtype: compute type; parameters, statistics and logits stay float32.
    """

    num_classes: int
    stage_sizes: Sequence[int]
    widths: Sequence[int]
    block: str = "basic"
    stem: str = "imagenet"
    in_channels: int = 3
    width_factor: int = 1
    norm: str = "batch"
    norm_momentum: float = 0.9
    norm_epsilon: float = 1e-5
    norm_groups: int | None = None
    norm_axis_name: str | None = None
    weight_standardization: bool = False
    convolution: str = "native"
    scan_blocks: bool | None = None
    remat: str = "none"
    dtype: Any = "float32"
