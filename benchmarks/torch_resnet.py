"""Residual networks in plain PyTorch, the independent implementation that ours are compared with.

Modules are named as in torchvision's `resnet.py` (conv1, bn1, layer1.0.conv1, downsample.0, fc). It has
no names for squeeze-and-excitation (se.fc1, se.fc2) and pre-activated blocks (bn0 before the first
convolution, bn after the last stage).
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


class SqueezeExcite(nn.Module):
    """Hu et al. 2018, §3: each channel times a gate of the means of all."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, channels, h, w], the same."""
        hidden = F.relu(self.fc1(x.mean((2, 3), keepdim=True)), inplace=True)
        return x * torch.sigmoid(self.fc2(hidden))


def _conv(
    in_channels: int, out_channels: int, size: int, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    options = {"padding": size // 2, "groups": groups, "bias": False}
    return nn.Conv2d(in_channels, out_channels, size, stride, **options)


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


class PreactivatedBlock(nn.Module):
    """Zagoruyko & Komodakis 2016, Fig. 1a: norm and ReLU before each of two 3×3 convolutions.

    The skip path is x, or where shapes differ a projection of the activated x.
    """

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.bn0, self.conv1 = nn.BatchNorm2d(in_channels), _conv(in_channels, width, 3, stride)
        self.bn1, self.conv2 = nn.BatchNorm2d(width), _conv(width, width, 3)
        self.downsample = None
        if shortcut != "B":
            raise ValueError(f"shortcut: pre-activated blocks have B, not {shortcut}")
        if stride > 1 or in_channels != width:
            self.downsample = nn.Sequential(_conv(in_channels, width, 1, stride))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        activated = F.relu(self.bn0(x), inplace=True)
        out = self.conv2(F.relu(self.bn1(self.conv1(activated)), inplace=True))
        return out.add_(x if self.downsample is None else self.downsample(activated))


class Bottleneck(nn.Module):
    """He 2015, Fig. 5 right, stride in the 3×3; the output has 4 * width channels.

    With groups and `bottleneck_width`, the 3×3 has as many and `bottleneck_width` * width filters (Xie
    et al. 2017, Fig. 3c); with `squeeze_reduction`, the branch ends with a squeeze-and-excitation.
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int,
        shortcut: str,
        groups: int = 1,
        bottleneck_width: int = 1,
        squeeze_reduction: int | None = None,
    ) -> None:
        super().__init__()
        inner, out_channels = bottleneck_width * width, 4 * width
        self.conv1, self.bn1 = _conv(in_channels, inner, 1), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = _conv(inner, inner, 3, stride, groups), nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = _conv(inner, out_channels, 1), nn.BatchNorm2d(out_channels)
        self.se = SqueezeExcite(out_channels, squeeze_reduction) if squeeze_reduction else None
        self.downsample = _downsample(shortcut, in_channels, out_channels, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(out))
        if self.se is not None:
            out = self.se(out)
        if self.downsample is not None:
            out += self.downsample(x)
        return F.relu(out, inplace=True)


def torch_resnet(
    family: str,
    depth: int,
    shortcut: str | None = None,
    num_classes: int = 10,
    in_channels: int = 3,
    width_factor: int = 1,
    **bottleneck_options: Any,
) -> nn.Module:
    """A residual network that maps [batch, in_channels, h, w] to logits [batch, num_classes].

    Args:
        family: `cifar` (He 2015, §4.2: depth 6n+2, widths 16, 32, 64), `wide` (Zagoruyko &
            Komodakis 2016, Table 1: depth 6n+4) or `imagenet` (He 2015, Table 1).
        depth: weighted layers on the main path.
        shortcut: `none`, `A`, `B` or `C`; None: A for `cifar`, B for the others.
        num_classes: size of the logits.
        in_channels: channels of the images.
        width_factor: of all stages; of `wide` alone, where it is at least 2.
        **bottleneck_options: `groups`, `bottleneck_width` and `squeeze_reduction` of `Bottleneck`.
    """
    if (family == "wide") != (width_factor > 1):
        raise ValueError(f"width_factor: {width_factor} is not for family {family}")
    shortcut = shortcut or {"cifar": "A", "wide": "B", "imagenet": "B"}[family]
    block, sizes, width, stem = PreactivatedBlock, ((depth - 4) // 6,) * 3, 16, (3, 1)
    if family == "cifar":
        block, sizes = BasicBlock, ((depth - 2) // 6,) * 3
    elif family == "imagenet":
        (bottleneck, sizes), width, stem = IMAGENET[depth], 64, (7, 2)
        block = Bottleneck if bottleneck else BasicBlock
    layers = OrderedDict(conv1=_conv(in_channels, width, *stem))
    if family != "wide":
        layers |= {"bn1": nn.BatchNorm2d(width), "relu": nn.ReLU(inplace=True)}
    if family == "imagenet":
        layers["maxpool"] = nn.MaxPool2d(3, 2, 1)
    channels, width = width, width * width_factor
    for number, size in enumerate(sizes, 1):
        blocks = []
        for stride in [1 if number == 1 else 2] + [1] * (size - 1):
            blocks.append(block(channels, width, stride, shortcut, **bottleneck_options))
            channels = width * block.expansion
        layers[f"layer{number}"] = nn.Sequential(*blocks)
        width *= 2
    if family == "wide":
        layers |= {"bn": nn.BatchNorm2d(channels), "relu": nn.ReLU(inplace=True)}
    layers |= {"avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    layers["fc"] = nn.Linear(channels, num_classes)
    return nn.Sequential(layers)


# Names of `resnet_jax.models.ResNet` to those above, in this order.
RENAMES = (
    (r"^stem\.conv\.", "conv1."),
    (r"^stem\.norm\.", "bn1."),
    (r"^stage(\d+)\.blocks\.", r"layer\1."),
    (r"^norm\.", "bn."),
    (r"^head\.", "fc."),
    (r"\.branch\.", "."),
    (r"\.shortcut\.conv\.", ".downsample.0."),
    (r"\.shortcut\.norm\.", ".downsample.1."),
    (r"\.squeeze_excite\.reduce\.", ".se.fc1."),
    (r"\.squeeze_excite\.expand\.", ".se.fc2."),
    (r"\.norm\.", ".bn0."),
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
