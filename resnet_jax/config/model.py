"""The section `model`: which network."""

from dataclasses import dataclass

from resnet_jax.config.fields import Section, Traced, setting
from resnet_jax.config.rules import FRACTION, POSITIVE, SHARE, up_to


@dataclass(frozen=True)
class ModelConfig(Section):
    """Which network, and how it is computed."""

    family: str = setting("cifar", "cifar, wide (3 stages, 16-64 filters) or imagenet (4, 64-512)")
    depth: int = setting(20, "weighted layers on the main path", up_to(10_000))
    block: str | None = setting(None, "basic or bottleneck; None: the paper's")
    activation_order: str | None = setting(
        None,
        "original, norm_after_addition, relu_before_addition, relu_only_preactivation or "
        "full_preactivation; None: the family's",
    )
    shortcut: str | None = setting(
        None,
        "none, A, B, C, D, constant_scaling, exclusive_gating, shortcut_only_gating, dropout or "
        "highway; None: the family's",
    )
    gate_bias: float | None = setting(None, "of gates, at the start; None: -6")
    shortcut_scale: float | None = setting(None, "factor of x in constant_scaling; None: 0.5")
    branch_scale: float | None = setting(None, "factor of F(x) in constant_scaling; None: 0.5")
    shortcut_dropout: float | None = setting(
        None, "rate of the dropout shortcut; None: 0.5", FRACTION
    )
    branch_init: str = setting("he", "he, zero_gamma, fixup, skipinit, rezero or layerscale")
    initial_scale: float | None = setting(
        None, "of skipinit (None: 1/√blocks) and layerscale (None: 1e-4)"
    )
    stem: str | None = setting(None, "cifar, imagenet, bit, deep or patchify; None: the family's")
    num_classes: int | None = setting(None, "size of the logits; None: the data set's", POSITIVE)
    width_factor: int = setting(1, "multiplies the filters of every stage", up_to(10**6))
    groups: int = setting(1, "of a bottleneck's 3×3 convolution (ResNeXt)", up_to(10**6))
    bottleneck_width: int = setting(
        1, "filters of a bottleneck's 3×3 convolution, as a multiple", up_to(10**6)
    )
    stride_in_1x1: bool = setting(False, "bottleneck stride in the first 1×1 convolution")
    squeeze_reduction: int | None = setting(
        None, "r of squeeze-and-excitation; None: there is none", up_to(10**6)
    )
    dropout: float = setting(0.0, "rate before the last convolution of a branch", FRACTION)
    survival_probability: float = setting(
        1.0,
        "of the last block in stochastic depth; 1: none",
        SHARE,
        traced=Traced(off=1.0),
    )
    stochastic_depth_scaling: str = setting(
        "test", "test: scale branches in evaluation, as the paper; train: in training"
    )
    antialias: bool = setting(
        False, "low-pass filter where branches, skip paths and max pools stride"
    )
    norm: str = setting("batch", "batch, frozen_batch, group, layer or none")
    norm_momentum: float = setting(0.9, "weight of old batch statistics", FRACTION)
    norm_epsilon: float = setting(1e-5, "added to the variance", POSITIVE)
    norm_groups: int | None = setting(
        None, "of norm group; None: 32, or fewer so that a group has 4 channels", up_to(10**6)
    )
    weight_standardization: bool = setting(False, "convolve with standardised filters")
    init_from: str | None = setting(
        None,
        "weights to start from: a run directory, a .pth or .safetensors file, or hf://OWNER/NAME",
        path=True,
    )
    init_entry: str | None = setting(
        None,
        "of a file with several state dicts, the one to take: state_dict, model_ema; of a run, the "
        "checkpoint; None: averaged weights first, and the latest",
    )
    freeze: tuple[str, ...] = setting(
        (), "parts that stay as they are, statistics too: 'stem, stage1'"
    )
    scan_blocks: bool | None = setting(
        None,
        "run the blocks of a stage as one compiled loop; None: where all stages have 9 or more",
    )
    remat: str = setting("none", "none, block or stage: computed again in the backward pass")
    convolution: str = setting(
        "auto",
        "native, loop_safe, onednn, or auto: on a CPU onednn where it was found right, else "
        "loop_safe; elsewhere native",
    )
    dtype: str = setting(
        "float32", "compute type: float32, bfloat16 or float64; float16 is not for training"
    )
