"""Residual networks in plain PyTorch, the independent implementation that ours are compared with.

Modules are named as in torchvision's `resnet.py` (conv1, bn1, layer1.0.conv1, downsample.0, fc).
"""

import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import flax.nnx
import jax
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from benchmarks.plain_flax import IMAGENET


class ZeroPad(nn.Module):
    """Option A (He 2015, §3.3): subsample, then zero channels, half before and half behind."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride, extra = stride, out_channels - in_channels
        self.padding = (0, 0, 0, 0, extra // 2, extra - extra // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, in_channels, h, w] to [batch, out_channels, h / stride, w / stride]."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], self.padding)


def _conv(in_channels: int, out_channels: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, size, stride, padding=size // 2, bias=False)


def _downsample(kind: str, in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
    """The skip path of a block by options A, B, C (He 2015, §3.3); None for the plain net."""
    if kind == "none":
        return None
    if kind != "C" and stride == 1 and in_channels == out_channels:
        return nn.Identity()
    if kind == "A":
        return ZeroPad(in_channels, out_channels, stride)
    return nn.Sequential(_conv(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels))


class BasicBlock(nn.Module):
    """He 2015, Fig. 5 left: [batch, in_channels, h, w] to [batch, width, h / stride, w / stride]."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(in_channels, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3), nn.BatchNorm2d(width)
        self.downsample = _downsample(shortcut, in_channels, width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            out += self.downsample(x)
        return F.relu(out, inplace=True)


class Bottleneck(nn.Module):
    """He 2015, Fig. 5 right, stride in the 3×3; the output has 4 * width channels."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(in_channels, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = _conv(width, 4 * width, 1), nn.BatchNorm2d(4 * width)
        self.downsample = _downsample(shortcut, in_channels, 4 * width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(out))
        if self.downsample is not None:
            out += self.downsample(x)
        return F.relu(out, inplace=True)


def torch_resnet(
    family: str,
    depth: int,
    shortcut: str | None = None,
    num_classes: int = 10,
    in_channels: int = 3,
) -> nn.Module:
    """A residual network that maps [batch, in_channels, h, w] to logits [batch, num_classes].

    Args:
        family: `cifar` (He 2015, §4.2: depth 6n+2, widths 16, 32, 64) or `imagenet` (Table 1).
        depth: weighted layers on the main path.
        shortcut: `none`, `A`, `B` or `C`; None: A for `cifar`, B for `imagenet`.
        num_classes: size of the logits.
        in_channels: channels of the images.
    """
    shortcut = shortcut or {"cifar": "A", "imagenet": "B"}[family]
    if family == "cifar":
        bottleneck, sizes, width, stem = False, ((depth - 2) // 6,) * 3, 16, (3, 1)
    else:
        (bottleneck, sizes), width, stem = IMAGENET[depth], 64, (7, 2)
    layers = OrderedDict(conv1=_conv(in_channels, width, *stem))
    layers |= {"bn1": nn.BatchNorm2d(width), "relu": nn.ReLU(inplace=True)}
    if family == "imagenet":
        layers["maxpool"] = nn.MaxPool2d(3, 2, 1)
    block, channels = (Bottleneck if bottleneck else BasicBlock), width
    for number, size in enumerate(sizes, 1):
        blocks = []
        for stride in [1 if number == 1 else 2] + [1] * (size - 1):
            blocks.append(block(channels, width, stride, shortcut))
            channels = width * block.expansion
        layers[f"layer{number}"] = nn.Sequential(*blocks)
        width *= 2
    layers |= {"avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    layers["fc"] = nn.Linear(channels, num_classes)
    return nn.Sequential(layers)


# Names of `resnet_jax.models.ResNet` to those above, in this order.
RENAMES = (
    (r"^stem\.conv\.", "conv1."),
    (r"^stem\.norm\.", "bn1."),
    (r"^stage(\d+)\.blocks\.", r"layer\1."),
    (r"^head\.", "fc."),
    (r"\.branch\.", "."),
    (r"\.shortcut\.conv\.", ".downsample.0."),
    (r"\.shortcut\.norm\.", ".downsample.1."),
    (r"\.norm(\d)\.", r".bn\1."),
    (r"\.(kernel|scale)$", ".weight"),
    (r"\.mean$", ".running_mean"),
    (r"\.var$", ".running_var"),
)


def torch_arrays(tree: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """A nested dict of our parameters, gradients or statistics in torch's names and layouts.

    Convolutions HWIO become OIHW; linear kernels are transposed.
    """
    arrays = {}
    for path, leaf in jax.tree.leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        for pattern, replacement in RENAMES:
            name = re.sub(pattern, replacement, name)
        array = np.array(leaf)
        arrays[name] = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
    return arrays


def copy_weights(model: flax.nnx.Module, torch_model: nn.Module) -> None:
    """Write parameters and running statistics of our `ResNet` into a network of `torch_resnet`.

    Raises:
        RuntimeError: names on one side only, or shapes that differ; lists all of them.
    """
    state = flax.nnx.state(model, flax.nnx.Any(flax.nnx.Param, flax.nnx.BatchStat))
    arrays = torch_arrays(flax.nnx.to_pure_dict(state))
    # Strict: only `num_batches_tracked`, which ours lack and nothing here reads, may be missing.
    torch_model.load_state_dict({name: torch.from_numpy(a) for name, a in arrays.items()})
