"""The skip path of a residual block, one class a kind.

A shortcut is built from the explicit dimensions (in_channels, out_channels, stride), never by
comparing the shapes of two arrays, and is called as `shortcut(x, branch, key)`, where x is the input of
the block, `branch` the output F(x) of its residual branch, and `key` one key an example or None. It
returns the two joined: for most kinds, their sum.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from resnet_jax.models.choices import IllegalChoiceError, pick
from resnet_jax.models.convolution import convolution
from resnet_jax.models.normalization import BatchNorm
from resnet_jax.models.pooling import average_pool, blur_pool
from resnet_jax.models.stochastic import Dropout

Make = Callable[..., Any]


class NoShortcut(nnx.Module):
    """`none`: the plain net, y = F(x) (He 2015, §3.3)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, **layers: Any) -> None:
        del in_channels, out_channels, stride, layers

    def __call__(self, x: jax.Array, branch: jax.Array, key: Any = None) -> jax.Array:
        del x, key
        return branch


class ZeroPadShortcut(nnx.Module):
    """`A`: y = F(x) + pad(x[::stride, ::stride]), without parameters (He 2015, §3.3, option A).

    The extra channels are zeros, half of them before and half after the channels of x, as in the widely
    used CIFAR weights. The shortcuts of He 2016 are made of this one.

    Raises:
        IllegalChoiceError: the block has fewer output than input channels.
    """

    kind = "A"

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, *, blur: bool = False, **layers: Any
    ) -> None:
        del layers
        if out_channels < in_channels:
            allowed = f"B or C, where channels shrink ({in_channels} to {out_channels})"
            raise IllegalChoiceError("shortcut", self.kind, allowed)
        self.extra_channels = out_channels - in_channels
        self.stride = stride
        self.blur = blur

    def skip(self, x: jax.Array) -> jax.Array:
        """x in the shape of the branch."""
        stride = self.stride
        x = blur_pool(x, stride) if self.blur else x[:, ::stride, ::stride, :]
        before = self.extra_channels // 2
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (before, self.extra_channels - before)))

    def __call__(self, x: jax.Array, branch: jax.Array, key: Any = None) -> jax.Array:
        del key
        return branch + self.skip(x)


class ProjectionShortcut(nnx.Module):
    """`C`: y = F(x) + BN(W_s x) in every block; W_s is a 1×1 convolution (He 2015, eq. 2, option C).

    He 2016, §3, studies it as "1×1 conv shortcut". With `blur`, the input of a strided projection
    is low-pass filtered (Zhang 2019).
    """

    averages = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        *,
        conv: Make = convolution,
        norm: Make = BatchNorm,
        rngs: nnx.Rngs,
        blur: bool = False,
    ) -> None:
        pools = blur or self.averages
        self.pool_stride = stride if pools else 1
        self.conv = conv(in_channels, out_channels, 1, stride=1 if pools else stride, rngs=rngs)
        self.norm = norm(out_channels, rngs=rngs)

    def __call__(self, x: jax.Array, branch: jax.Array, key: Any = None) -> jax.Array:
        del key
        pool = average_pool if self.averages else blur_pool
        return branch + self.norm(self.conv(pool(x, self.pool_stride)))


class AveragePoolProjection(ProjectionShortcut):
    """`D` where shape changes: y = F(x) + BN(W_s pool(x)), with a 2×2 mean (He 2019, "Bag of Tricks", Fig. 2c)."""

    averages = True


class ConstantScaling(ZeroPadShortcut):
    """`constant_scaling`: y = λ x + β F(x) (He 2016, §3.1, "Constant scaling").

    Args:
        shortcut_scale: λ.
        branch_scale: β.
    """

    kind = "constant_scaling"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        *,
        shortcut_scale: float = 0.5,
        branch_scale: float = 0.5,
        **layers: Any,
    ) -> None:
        super().__init__(in_channels, out_channels, stride, **layers)
        self.shortcut_scale, self.branch_scale = shortcut_scale, branch_scale

    def __call__(self, x: jax.Array, branch: jax.Array, key: Any = None) -> jax.Array:
        return self.shortcut_scale * self.skip(x) + self.branch_scale * branch


class ShortcutOnlyGating(ZeroPadShortcut):
    """`shortcut_only_gating`: y = (1 − g(x)) x + F(x), g(x) = σ(W_g x + b_g) (He 2016, §3.1).

    Args:
        gate_bias: b_g at the start; W_g is a 1×1 convolution.
    """

    kind = "shortcut_only_gating"
    gate_size = 1

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        *,
        gate_bias: float = -6.0,
        conv: Make = convolution,
        rngs: nnx.Rngs,
        **layers: Any,
    ) -> None:
        super().__init__(in_channels, out_channels, stride, **layers)
        self.gate = conv(
            in_channels,
            out_channels,
            self.gate_size,
            stride=stride,
            use_bias=True,
            weight_standardization=False,  # No norm follows.
            rngs=rngs,
        )
        self.gate.bias.set_value(jnp.full(out_channels, gate_bias, jnp.float32))

    def __call__(self, x: jax.Array, branch: jax.Array, key: Any = None) -> jax.Array:
        return ((1 - self._gate(x)) * self.skip(x) + branch).astype(branch.dtype)

    def _gate(self, x: jax.Array) -> jax.Array:
        # In bfloat16 a gate of σ(6) would be 1.
        return nnx.sigmoid(self.gate(x).astype(jnp.promote_types(jnp.float32, x.dtype)))


class ExclusiveGating(ShortcutOnlyGating):
    """`exclusive_gating`: y = (1 − g(x)) x + g(x) F(x), g as above (He 2016, §3.1)."""

    kind = "exclusive_gating"

    def __call__(self, x: jax.Array, branch: jax.Array, key: Any = None) -> jax.Array:
        gate = self._gate(x)
        return ((1 - gate) * self.skip(x) + gate * branch).astype(branch.dtype)


class Highway(ExclusiveGating):
    """`highway`: as `exclusive_gating`, but T is a 3×3 convolution (Srivastava et al. 2015, "Training Very
    Deep Networks", eq. 3)."""

    kind = "highway"
    gate_size = 3


class DropoutShortcut(ZeroPadShortcut):
    """`dropout`: y = dropout(x) + F(x) (He 2016, §3.1, "Dropout shortcut").

    Args:
        shortcut_dropout: probability that an entry of x is zeroed.
    """

    kind = "dropout"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        *,
        shortcut_dropout: float = 0.5,
        **layers: Any,
    ) -> None:
        super().__init__(in_channels, out_channels, stride, **layers)
        self.dropout = Dropout(shortcut_dropout)

    def __call__(self, x: jax.Array, branch: jax.Array, key: Any = None) -> jax.Array:
        return self.dropout(self.skip(x), key) + branch


def _where_shape_changes(projection: Make) -> Make:
    """`projection` where a block changes channels or resolution, else y = F(x) + x."""

    def make(in_channels: int, out_channels: int, stride: int, **layers: Any) -> nnx.Module:
        changes = stride != 1 or in_channels != out_channels
        make_one = projection if changes else ZeroPadShortcut
        return make_one(in_channels, out_channels, stride, **layers)

    return make


# `B`: He 2015, §3.3, option B. `D`: see `AveragePoolProjection`.
SHORTCUTS: dict[str, Make] = {
    "none": NoShortcut,
    "A": ZeroPadShortcut,
    "B": _where_shape_changes(ProjectionShortcut),
    "C": ProjectionShortcut,
    "D": _where_shape_changes(AveragePoolProjection),
    "constant_scaling": ConstantScaling,
    "exclusive_gating": ExclusiveGating,
    "shortcut_only_gating": ShortcutOnlyGating,
    "dropout": DropoutShortcut,
    "highway": Highway,
}
_GATED = ("exclusive_gating", "shortcut_only_gating", "highway")
# Field of a block → the shortcuts that have it.
OPTIONS: dict[str, tuple[str, ...]] = {
    "gate_bias": _GATED,
    "shortcut_scale": ("constant_scaling",),
    "branch_scale": ("constant_scaling",),
    "shortcut_dropout": ("dropout",),
}


def shortcut(
    kind: str, in_channels: int, out_channels: int, stride: int, **options: Any
) -> nnx.Module:
    """The shortcut named `kind` for a block of these dimensions.

    Args:
        kind: a key of `SHORTCUTS`.
        in_channels, out_channels: channels of the block's input and output.
        stride: of the block.
        **options: `conv` and `norm` (how layers are made), `rngs`, `blur` (of projections), and
            `gate_bias`, `shortcut_scale`, `branch_scale` and `shortcut_dropout`, of the kinds that
            have them; None there takes the paper's.

    Raises:
        IllegalChoiceError: no such kind, one that cannot join these dimensions, or an option that it
            does not have.
    """
    make = pick("shortcut", kind, SHORTCUTS)
    for name, kinds in OPTIONS.items():
        if options.get(name) is None:
            options.pop(name, None)
        elif kind not in kinds:
            allowed = f"None, for shortcut {kind!r}; it belongs to {', '.join(kinds)}"
            raise IllegalChoiceError(name, options[name], allowed)
    return make(in_channels, out_channels, stride, **options)
