"""The branch of a residual block: its convolutions, how they start and in what order it works."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
from flax import nnx

from resnet_jax.models.choices import IllegalChoiceError, member
from resnet_jax.models.normalization import ScalarAffine, ScalarBias
from resnet_jax.models.pooling import blur_pool
from resnet_jax.models.residual import BranchScale
from resnet_jax.models.spec import BlockSpec, NetworkSpec
from resnet_jax.models.stochastic import Dropout

Make = Callable[..., Any]


class Order(NamedTuple):
    """Where a block normalises and activates (He 2016, Fig. 4).

    Attributes:
        norm, activation: of the block: `pre`, before the branch; `post`, after the addition; `none`.
        branch_norm, branch_activation: whether the last convolution of the branch is followed by them.
    """

    norm: str
    activation: str
    branch_norm: bool
    branch_activation: bool

    @property
    def stem_norm(self) -> bool:
        """Whether the stem ends with a norm; else the first block begins with one."""
        return self.norm != "pre"

    @property
    def stem_activation(self) -> bool:
        """Whether the stem ends with a ReLU; else the first block begins with one."""
        return self.activation != "pre"


ORDERS = {
    "original": Order("none", "post", True, False),
    "norm_after_addition": Order("post", "post", False, False),
    "relu_before_addition": Order("none", "none", True, True),
    "relu_only_preactivation": Order("none", "pre", True, False),
    "full_preactivation": Order("pre", "pre", False, False),
}

BRANCH_INITS = ("he", "zero_gamma", "fixup", "skipinit", "rezero", "layerscale")


@dataclass(frozen=True)
class BranchInit:
    """How a branch starts, and what scales it.

    Attributes:
        kind: `he`; `zero_gamma`: the last norm at γ = 0 (Goyal 2017, §5.1); `fixup`: no norms but
            scalar biases, weights scaled by the depth (Zhang 2019, §3); `skipinit`, `rezero`: a
            learned scalar, at 1/√L or 0; `layerscale`: one a channel, at 1e-4 (our default).
        num_blocks: L, of the whole network.
        initial_scale: start of the learned scale; None: as said.
    """

    kind: str = "he"
    num_blocks: int = 1
    initial_scale: float | None = None

    def gain(self, layer: int, num_layers: int) -> float:
        """Factor of the initial weights of convolution `layer`, from 0 (Fixup, rule 2)."""
        if self.kind != "fixup":
            return 1.0
        if layer == num_layers - 1:
            return 0.0
        return self.num_blocks ** (-1 / (2 * num_layers - 2))

    def scale(self, features: int) -> BranchScale | None:
        """The learned scale of a branch with `features` channels."""
        starts = {"skipinit": 1 / math.sqrt(self.num_blocks), "rezero": 0.0, "layerscale": 1e-4}
        if self.kind not in starts:
            return None
        start = starts[self.kind] if self.initial_scale is None else self.initial_scale
        return BranchScale(start, features if self.kind == "layerscale" else None)

    def check(self, spec: NetworkSpec) -> None:
        """Refuse what contradicts the rest of the network.

        Raises:
            IllegalChoiceError: names the field and what it allows.
        """
        member("branch_init", self.kind, BRANCH_INITS)
        if self.kind != "he" and spec.shortcut == "none":
            allowed = (
                "he, for shortcut 'none': a plain net passes nothing on where its branch is small"
            )
            raise IllegalChoiceError("branch_init", self.kind, allowed)
        normalises = spec.norm not in ("none", "frozen_batch")
        if self.kind == "zero_gamma" and not (
            ORDERS[spec.activation_order].branch_norm and normalises
        ):
            with_norm = ", ".join(name for name, o in ORDERS.items() if o.branch_norm)
            allowed = (
                f"zero_gamma needs a norm at the end of the branch: activation_order {with_norm}"
            )
            raise IllegalChoiceError(
                "branch_init", self.kind, f"{allowed}, and norm not 'none' or 'frozen_batch'"
            )
        needed = ("none", "original")
        if self.kind == "fixup" and (spec.norm, spec.activation_order) != needed:
            allowed = "fixup needs norm 'none' and activation_order 'original'"
            raise IllegalChoiceError("branch_init", self.kind, allowed)
        if self.kind == "fixup" and spec.weight_standardization:
            allowed = "False, for branch_init 'fixup': it would undo the scale of the weights"
            raise IllegalChoiceError("weight_standardization", True, allowed)
        if self.initial_scale is not None and self.kind not in ("skipinit", "layerscale"):
            allowed = f"None, for branch_init {self.kind!r}; it belongs to skipinit, layerscale"
            raise IllegalChoiceError("initial_scale", self.initial_scale, allowed)


class SqueezeExcite(nnx.Module):
    """Scales each channel by a gate of the mean of all channels (Hu et al. 2018, §3, eq. 2–4).

    Args:
        channels: of input and output.
        reduction: r; the hidden layer has channels / r units, at least 8.
        conv: how 1×1 convolutions are made.
        rngs: the stream `params`.
    """

    def __init__(self, channels: int, reduction: int, *, conv: Make, rngs: Any) -> None:
        hidden = max(8, channels // reduction)
        # Gates are not followed by a norm, so their weights are never standardised.
        options = {"use_bias": True, "weight_standardization": False, "rngs": rngs}
        self.reduce = conv(channels, hidden, 1, **options)
        self.expand = conv(hidden, channels, 1, **options)

    def __call__(self, x: jax.Array) -> jax.Array:
        """x: float[batch, height, width, channels]."""
        squeezed = x.mean((1, 2), keepdims=True)
        return x * nnx.sigmoid(self.expand(nnx.relu(self.reduce(squeezed))))


class ConvSpec(NamedTuple):
    """One convolution of a branch."""

    size: int
    channels: int
    stride: int = 1
    groups: int = 1


class Branch(nnx.Module):
    """F: convolutions with norm and ReLU between them; how it ends depends on the order.

    Args:
        in_channels: channels of the input.
        layers: its convolutions.
        spec: of the block. With `antialias` a strided convolution becomes a dense one, ReLU and a
            low-pass filter with the stride.
        init: how the weights start.
        conv, norm: how layers are made.
        rngs: the stream `params`.

    Attributes:
        conv1, norm1, conv2, …: the layers, in their order.
    """

    def __init__(
        self,
        in_channels: int,
        layers: Sequence[ConvSpec],
        spec: BlockSpec,
        init: BranchInit,
        *,
        conv: Make,
        norm: Make,
        rngs: Any,
    ) -> None:
        order = ORDERS[spec.activation_order]
        self.num_layers = len(layers)
        self.activates_end = order.branch_activation
        self.blur_strides = tuple(layer.stride if spec.antialias else 1 for layer in layers)
        self.fixup = init.kind == "fixup"
        for number, layer in enumerate(layers, 1):
            last = number == self.num_layers
            stride = 1 if spec.antialias else layer.stride
            gain = init.gain(number - 1, self.num_layers)
            if self.fixup:
                setattr(self, f"bias{number}", ScalarBias())
            made = conv(
                in_channels, layer.channels, layer.size, stride=stride, groups=layer.groups, gain=gain,
                rngs=rngs,
            )  # fmt: skip
            setattr(self, f"conv{number}", made)
            if not last:
                setattr(self, f"norm{number}", norm(layer.channels, rngs=rngs))
            in_channels = layer.channels
        if order.branch_norm:
            gamma = 0.0 if init.kind == "zero_gamma" else 1.0
            end = (
                ScalarAffine() if self.fixup else norm(in_channels, initial_scale=gamma, rngs=rngs)
            )
            setattr(self, f"norm{self.num_layers}", end)
        self.dropout = Dropout(spec.dropout) if spec.dropout else None
        self.squeeze_excite = nnx.data(
            SqueezeExcite(in_channels, spec.squeeze_reduction, conv=conv, rngs=rngs)
            if spec.squeeze_reduction
            else None
        )

    def windows(self) -> list[tuple[int, int]]:
        """(size, stride) of every sliding window, in order."""
        windows = []
        for number, blur_stride in enumerate(self.blur_strides, 1):
            conv = getattr(self, f"conv{number}")
            windows.append((conv.kernel_size[0], conv.strides[0]))
            if blur_stride > 1:
                windows.append((3, blur_stride))
        return windows

    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """x: float[batch, height, width, in_channels]; key: of dropout."""
        for number in range(1, self.num_layers + 1):
            last = number == self.num_layers
            if last and self.dropout is not None:
                x = self.dropout(x, key)
            if self.fixup:
                x = getattr(self, f"bias{number}")(x)
            x = getattr(self, f"conv{number}")(x)
            norm = getattr(self, f"norm{number}", None)
            if norm is not None:
                x = norm(x)
            if not last:
                x = blur_pool(nnx.relu(x), self.blur_strides[number - 1])
        if self.squeeze_excite is not None:
            x = self.squeeze_excite(x)
        return nnx.relu(x) if self.activates_end else x
