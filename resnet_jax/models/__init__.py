"""Residual networks in Flax NNX. Needs JAX and Flax only and can be used on its own."""

from resnet_jax.models.blocks import BLOCKS, BasicBlock, BottleneckBlock
from resnet_jax.models.choices import IllegalChoiceError
from resnet_jax.models.convolution import (
    IMPLEMENTATIONS,
    automatic_implementation,
    loop_safe_convolution,
)
from resnet_jax.models.cost import count_macs, count_parameters
from resnet_jax.models.normalization import BatchNorm
from resnet_jax.models.resnet import STEMS, ResNet
from resnet_jax.models.shortcuts import SHORTCUTS
from resnet_jax.models.zoo import FAMILIES, ZOO, create, resnet

__all__ = [
    "BLOCKS",
    "FAMILIES",
    "IMPLEMENTATIONS",
    "SHORTCUTS",
    "STEMS",
    "ZOO",
    "BasicBlock",
    "BatchNorm",
    "BottleneckBlock",
    "IllegalChoiceError",
    "ResNet",
    "automatic_implementation",
    "count_macs",
    "count_parameters",
    "create",
    "loop_safe_convolution",
    "resnet",
]
