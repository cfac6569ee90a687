"""Residual networks and a train step as one writes them with the layers of `flax.nnx`.

The baseline in Flax: convolutions and batch norms of the library, blocks in a Python loop, one
compiled step. Nothing of `resnet_jax` is used.
"""

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

# He et al. 2015, "Deep Residual Learning for Image Recognition", Table 1: whether blocks are bottlenecks, and blocks per stage.
IMAGENET = {
    18: (False, (2, 2, 2, 2)),
    34: (False, (3, 4, 6, 3)),
    50: (True, (3, 4, 6, 3)),
    101: (True, (3, 4, 23, 3)),
    152: (True, (3, 8, 36, 3)),
}


def _conv(
    in_channels: int, out_channels: int, size: int, stride: int, dtype: Any, rngs: nnx.Rngs
) -> nnx.Conv:
    padding = ((size // 2, size // 2),) * 2
    return nnx.Conv(
        in_channels,
        out_channels,
        (size, size),
        (stride, stride),
        padding=padding,
        use_bias=False,
        dtype=dtype,
        rngs=rngs,
    )


def _norm(channels: int, dtype: Any, rngs: nnx.Rngs) -> nnx.BatchNorm:
    return nnx.BatchNorm(channels, momentum=0.9, epsilon=1e-5, dtype=dtype, rngs=rngs)


class ConvNorm(nnx.Module):
    """A convolution and its batch norm: the stem, and option B (He 2015, §3.3)."""

    def __init__(self, in_channels: int, out_channels: int, size: int, stride: int, **options: Any):
        self.conv = _conv(in_channels, out_channels, size, stride, **options)
        self.norm = _norm(out_channels, **options)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(self.conv(x))


class ZeroPad(nnx.Module):
    """Option A (He 2015, §3.3): subsample, then zero channels, half before and half behind."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        self.stride, extra = stride, out_channels - in_channels
        self.padding = (extra // 2, extra - extra // 2)

    def __call__(self, x: jax.Array) -> jax.Array:
        kept = x[:, :: self.stride, :: self.stride]
        return jnp.pad(kept, ((0, 0), (0, 0), (0, 0), self.padding))


class BasicBlock(nnx.Module):
    """He 2015, Fig. 5 left."""

    expansion = 1

    def __init__(
        self, in_channels: int, width: int, stride: int, shortcut: Any, **options: Any
    ) -> None:
        self.conv1 = _conv(in_channels, width, 3, stride, **options)
        self.norm1 = _norm(width, **options)
        self.conv2 = _conv(width, width, 3, 1, **options)
        self.norm2 = _norm(width, **options)
        self.shortcut = shortcut

    def __call__(self, x: jax.Array) -> jax.Array:
        branch = nnx.relu(self.norm1(self.conv1(x)))
        branch = self.norm2(self.conv2(branch))
        return nnx.relu(branch + (x if self.shortcut is None else self.shortcut(x)))


class Bottleneck(nnx.Module):
    """He 2015, Fig. 5 right, stride in the 3×3."""

    expansion = 4

    def __init__(
        self, in_channels: int, width: int, stride: int, shortcut: Any, **options: Any
    ) -> None:
        self.conv1 = _conv(in_channels, width, 1, 1, **options)
        self.norm1 = _norm(width, **options)
        self.conv2 = _conv(width, width, 3, stride, **options)
        self.norm2 = _norm(width, **options)
        self.conv3 = _conv(width, 4 * width, 1, 1, **options)
        self.norm3 = _norm(4 * width, **options)
        self.shortcut = shortcut

    def __call__(self, x: jax.Array) -> jax.Array:
        branch = nnx.relu(self.norm1(self.conv1(x)))
        branch = nnx.relu(self.norm2(self.conv2(branch)))
        branch = self.norm3(self.conv3(branch))
        return nnx.relu(branch + (x if self.shortcut is None else self.shortcut(x)))


class ResNet(nnx.Module):
    """A residual network: float[batch, height, width, 3] to logits float32[batch, num_classes].

    Args:
        family: `cifar` (He 2015, §4.2: depth 6n+2, widths 16, 32, 64, option A) or `imagenet`
            (Table 1, option B).
        depth: weighted layers on the main path.
        num_classes: size of the logits.
        dtype: compute type; parameters stay float32.
        rngs: initialise the weights.
    """

    def __init__(
        self, family: str, depth: int, num_classes: int, *, dtype: Any = None, rngs: nnx.Rngs
    ) -> None:
        self.family = family
        if family == "imagenet":
            (bottleneck, sizes), width, stem = IMAGENET[depth], 64, (7, 2)
        else:
            bottleneck, sizes, width, stem = False, ((depth - 2) // 6,) * 3, 16, (3, 1)
        options = {"dtype": dtype, "rngs": rngs}
        self.stem = ConvNorm(3, width, *stem, **options)
        make_block = Bottleneck if bottleneck else BasicBlock
        channels, stages = width, []
        for number, count in enumerate(sizes):
            blocks = []
            for stride in [1 if number == 0 else 2] + [1] * (count - 1):
                before, channels = channels, width * make_block.expansion
                shortcut: Any = None
                if stride > 1 or before != channels:
                    option_b = partial(ConvNorm, size=1, stride=stride, **options)
                    option_a = partial(ZeroPad, stride=stride)
                    shortcut = (option_b if family == "imagenet" else option_a)(before, channels)
                blocks.append(make_block(before, width, stride, shortcut, **options))
            stages.append(nnx.List(blocks))
            width *= 2
        self.stages = nnx.List(stages)
        self.head = nnx.Linear(channels, num_classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.stem(x))
        if self.family == "imagenet":
            x = nnx.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for blocks in self.stages:
            for block in blocks:
                x = block(x)
        return self.head(x.mean((1, 2)).astype(jnp.float32))


def _loss(model: ResNet, images: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()


@nnx.jit
def train_step(
    model: ResNet, optimizer: nnx.Optimizer, images: jax.Array, labels: jax.Array
) -> jax.Array:
    """One optimiser step; returns the mean loss before it."""
    loss, gradient = nnx.value_and_grad(_loss)(model, images, labels)
    optimizer.update(model, gradient)
    return loss


eval_step = nnx.jit(_loss)


def copy_weights(ours: nnx.Module, plain: ResNet) -> None:
    """Write parameters and running statistics of a `resnet_jax.models.ResNet` into a `ResNet`.

    Raises:
        KeyError, ValueError: names on one side only.
    """
    kinds = nnx.Any(nnx.Param, nnx.BatchStat)
    theirs = jax.tree.leaves_with_path(nnx.to_pure_dict(nnx.state(ours, kinds)))
    arrays = {_name(path): leaf for path, leaf in theirs}
    state = nnx.state(plain, kinds)
    shapes = nnx.to_pure_dict(state)
    copied = jax.tree.map_with_path(lambda path, _: jnp.copy(arrays.pop(_name(path))), shapes)
    if arrays:
        raise ValueError(f"only in ours: {', '.join(arrays)}")
    nnx.replace_by_pure_dict(state, copied)
    nnx.update(plain, state)


def _name(path: Any) -> str:
    """`stages.0.1.conv1.kernel`, which is `stage1.blocks.1.branch.conv1.kernel` in ours."""
    name = jax.tree_util.keystr(path, simple=True, separator=".")
    name = name.replace(".branch", "").replace(".blocks", "")
    return re.sub(r"^stage(\d+)", lambda found: f"stages.{int(found[1]) - 1}", name)
