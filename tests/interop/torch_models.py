"""The residual families in plain PyTorch, written from the papers, with the names of the code in use.

Images are [batch, 3, height, width] and logits [batch, num_classes].
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn


def conv(
    in_channels: int, out_channels: int, size: int, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    """A convolution without bias that keeps the resolution but for its stride."""
    padding = size // 2
    return nn.Conv2d(in_channels, out_channels, size, stride, padding, groups=groups, bias=False)


class SqueezeExcite(nn.Module):
    """Hu et al. 2018, eq. 2–4, with 1×1 convolutions as fully connected layers."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = max(8, channels // reduction)
        self.fc1, self.fc2 = nn.Conv2d(channels, hidden, 1), nn.Conv2d(hidden, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True))))
        return x * gate.sigmoid()


def projection(in_channels: int, out_channels: int, stride: int, average: bool) -> nn.Sequential:
    """Option B (He 2015, §3.3), or with the mean of ResNet-D (He 2019, Fig. 2c)."""
    pool = nn.AvgPool2d(2) if stride > 1 else nn.Identity()
    layers = [
        conv(in_channels, out_channels, 1, 1 if average else stride),
        nn.BatchNorm2d(out_channels),
    ]
    return nn.Sequential(*([pool] if average else []), *layers)


class Bottleneck(nn.Module):
    """He 2015, Fig. 5 right, with the groups of ResNeXt (Xie et al. 2017, Fig. 3c) and SE."""

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int,
        *,
        groups: int = 1,
        bottleneck_width: int = 1,
        reduction: int | None = None,
        average: bool = False,
    ) -> None:
        super().__init__()
        middle, out = width * bottleneck_width, 4 * width
        self.conv1, self.bn1 = conv(in_channels, middle, 1), nn.BatchNorm2d(middle)
        self.conv2, self.bn2 = conv(middle, middle, 3, stride, groups), nn.BatchNorm2d(middle)
        self.conv3, self.bn3 = conv(middle, out, 1), nn.BatchNorm2d(out)
        self.se = SqueezeExcite(out, reduction) if reduction else nn.Identity()
        changes = stride > 1 or in_channels != out
        self.downsample = projection(in_channels, out, stride, average) if changes else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.se(self.bn3(self.conv3(x))) + skip)


def deep_stem(channels: int) -> nn.Sequential:
    """ResNet-C and D (He 2019, Fig. 2b), without the last norm and ReLU."""
    half = channels // 2
    return nn.Sequential(
        *(conv(3, half, 3, 2), nn.BatchNorm2d(half), nn.ReLU()),
        *(conv(half, half, 3), nn.BatchNorm2d(half), nn.ReLU()),
        conv(half, channels, 3),
    )


class BottleneckNet(nn.Module):
    """A network of bottlenecks behind the stem of ImageNet (He 2015, Table 1), named as in timm."""

    def __init__(
        self,
        sizes: Sequence[int],
        widths: Sequence[int],
        num_classes: int,
        deep: bool = False,
        **options,
    ) -> None:
        super().__init__()
        self.conv1 = deep_stem(widths[0]) if deep else conv(3, widths[0], 7, 2)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.num_stages, channels = len(sizes), widths[0]
        for number, (size, width) in enumerate(zip(sizes, widths, strict=True), 1):
            strides = [1 if number == 1 else 2] + [1] * (size - 1)
            inputs = [channels] + [4 * width] * (size - 1)
            blocks = [
                Bottleneck(n, width, s, **options) for n, s in zip(inputs, strides, strict=True)
            ]
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
            channels = 4 * width
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for number in range(1, self.num_stages + 1):
            x = getattr(self, f"layer{number}")(x)
        return self.fc(x.mean((2, 3)))


class PreActivationBlock(nn.Module):
    """He 2016, Fig. 4e. The projection, and the skip path of a net's first block, see the activated input."""

    def __init__(self, in_channels: int, width: int, stride: int, first: bool, name: str) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(in_channels), conv(in_channels, width, 3, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(width), conv(width, width, 3)
        self.first, self.name = first, name
        if stride > 1 or in_channels != width:
            made = conv(in_channels, width, 1, stride)
            setattr(self, name, made if name == "convShortcut" else nn.Sequential(made))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        activated = F.relu(self.bn1(x))
        project = getattr(self, self.name, None)
        skip = activated if self.first or project is not None else x
        out = self.conv2(F.relu(self.bn2(self.conv1(activated))))
        return out + (skip if project is None else project(skip))


def _blocks(sizes: Sequence[int], widths: Sequence[int], shortcut: str) -> list[nn.Sequential]:
    stages, channels = [], 8
    for number, (size, width) in enumerate(zip(sizes, widths, strict=True)):
        blocks = []
        for index in range(size):
            first = number == 0 and index == 0
            stride = 2 if number > 0 and index == 0 else 1
            blocks.append(PreActivationBlock(channels, width, stride, first, shortcut))
            channels = width
        stages.append(nn.Sequential(*blocks))
    return stages


class PreActivationNet(nn.Module):
    """Pre-activation basic blocks for CIFAR (He 2016, §4), with a stem of 8 filters.

    Args:
        shortcut: what the projection is called.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        widths: Sequence[int],
        num_classes: int,
        shortcut: str = "downsample",
    ) -> None:
        super().__init__()
        self.conv1, self.num_stages = conv(3, 8, 3), len(sizes)
        for number, stage in enumerate(_blocks(sizes, widths, shortcut), 1):
            setattr(self, f"layer{number}", stage)
        self.bn, self.fc = nn.BatchNorm2d(widths[-1]), nn.Linear(widths[-1], num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(x)
        for number in range(1, self.num_stages + 1):
            x = getattr(self, f"layer{number}")(x)
        return self.fc(F.relu(self.bn(x)).mean((2, 3)))


class WideStage(nn.Module):
    """Blocks under the name `layer`, as in the common code of Wide ResNet."""

    def __init__(self, layer: nn.Sequential) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


class WideNet(nn.Module):
    """Zagoruyko & Komodakis 2016, Table 1, with a stem of 8 filters."""

    def __init__(self, sizes: Sequence[int], widths: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.conv1, self.num_stages = conv(3, 8, 3), len(sizes)
        for number, stage in enumerate(_blocks(sizes, widths, "convShortcut"), 1):
            setattr(self, f"block{number}", WideStage(stage))
        self.bn1, self.fc = nn.BatchNorm2d(widths[-1]), nn.Linear(widths[-1], num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(x)
        for number in range(1, self.num_stages + 1):
            x = getattr(self, f"block{number}")(x)
        return self.fc(F.relu(self.bn1(x)).mean((2, 3)))
