"""Residual networks in Flax NNX. Needs JAX and Flax only and can be used on its own."""

from resnet_jax.compiler import warn_of_ynnpack
from resnet_jax.models.blocks import BLOCKS, BasicBlock, BottleneckBlock
from resnet_jax.models.branch import BRANCH_INITS, ORDERS, BranchInit
from resnet_jax.models.choices import IllegalChoiceError
from resnet_jax.models.compilation import (
    checked_jit,
    compile_checked,
    compile_for_initialisation,
)
from resnet_jax.models.convolution import (
    IMPLEMENTATIONS,
    automatic_implementation,
)
from resnet_jax.models.cost import count_macs, count_parameters
from resnet_jax.models.freeze import freeze, trainable
from resnet_jax.models.initialise import initialise
from resnet_jax.models.modes import evaluation_view, training_view
from resnet_jax.models.normalization import NORMS, BatchNorm, DegenerateStatisticsError
from resnet_jax.models.residual import BranchScale, Residual
from resnet_jax.models.resnet import ResNet
from resnet_jax.models.shortcuts import SHORTCUTS
from resnet_jax.models.spec import BlockSpec, NetworkSpec
from resnet_jax.models.stage import stack_blocks, unstack_blocks
from resnet_jax.models.stem import STEMS
from resnet_jax.models.stochastic import Dropout, StochasticDepth
from resnet_jax.models.summary import Part, summarize
from resnet_jax.models.views import (
    Views,
    mean_over_views,
    multi_scale_logits,
    one_view,
    rescaled,
    ten_crop_logits,
    ten_crops,
)
from resnet_jax.models.zoo import FAMILIES, ZOO, create, resnet

warn_of_ynnpack()

__all__ = [
    "BLOCKS",
    "BRANCH_INITS",
    "FAMILIES",
    "IMPLEMENTATIONS",
    "NORMS",
    "ORDERS",
    "SHORTCUTS",
    "STEMS",
    "ZOO",
    "BasicBlock",
    "BatchNorm",
    "BlockSpec",
    "BottleneckBlock",
    "BranchInit",
    "BranchScale",
    "DegenerateStatisticsError",
    "Dropout",
    "IllegalChoiceError",
    "NetworkSpec",
    "Part",
    "ResNet",
    "Residual",
    "StochasticDepth",
    "Views",
    "automatic_implementation",
    "checked_jit",
    "compile_checked",
    "compile_for_initialisation",
    "count_macs",
    "count_parameters",
    "create",
    "evaluation_view",
    "freeze",
    "initialise",
    "mean_over_views",
    "multi_scale_logits",
    "one_view",
    "rescaled",
    "resnet",
    "stack_blocks",
    "summarize",
    "ten_crop_logits",
    "ten_crops",
    "trainable",
    "training_view",
    "unstack_blocks",
]
