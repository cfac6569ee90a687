"""The residual connection around any module: the piece that every block of this package is made of."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from resnet_jax.models.activation import choosing_relu
from resnet_jax.models.choices import member
from resnet_jax.models.stochastic import StochasticDepth, example_keys, fold

POSITIONS = ("pre", "post", "none")
_DROP_PATH, _SHORTCUT, _BRANCH = 0, 1, 2


class BranchScale(nnx.Module):
    """A learned factor of the branch.

    A scalar: ReZero (Bachlechner et al. 2020, eq. 1: 0 at the start) and SkipInit (De & Smith 2020,
    §3). One a channel: LayerScale (Touvron et al. 2021, "Going deeper with Image Transformers", eq. 4).

    Args:
        initial: value at the start.
        features: channels, for one factor each; None: a scalar.
    """

    def __init__(self, initial: float, features: int | None = None) -> None:
        shape = () if features is None else (features,)
        self.value = nnx.Param(jnp.full(shape, initial, jnp.float32))

    def __call__(self, branch: jax.Array) -> jax.Array:
        """branch: float[..., features]."""
        return (branch * self.value.get_value()).astype(branch.dtype)


class Residual(nnx.Module):
    """y = post(shortcut(x, drop_path(scale(F(pre(x)))))), where F is any module.

    With `norm="pre"`: y = x + F(norm(x)); with `norm="post"`: y = norm(x + F(x)). The activation, ReLU,
    follows the norm at its own position.

    Args:
        branch: F; maps an array to one that the shortcut can join with x.
        pass_key: call the branch with `key`, one key an example, too.
        features: size of the last axis where the norm stands; needed unless `norm` is `none`.
        norm, activation: `pre`, `post` or `none`.
        make_norm: called as `make_norm(features, rngs=rngs)`.
        shortcut: called as `shortcut(x, branch, key)`, returns the two joined; None: their sum.
        activate_shortcut: the shortcut is given pre(x) instead of x.
        scale: a module for the branch such as `BranchScale`, or the start of a learned scalar.
        drop_path: a `StochasticDepth`, or the probability of dropping the branch of an example in
            training, which is then scaled by its inverse.
        rngs: for the norm.

    Raises:
        IllegalChoiceError: no such position.
    """

    def __init__(
        self,
        branch: Callable[..., jax.Array],
        features: int | None = None,
        *,
        pass_key: bool = False,
        norm: str = "pre",
        activation: str = "none",
        make_norm: Callable[..., Any] = nnx.LayerNorm,
        shortcut: Callable[..., jax.Array] | None = None,
        activate_shortcut: bool = False,
        scale: Callable[[jax.Array], jax.Array] | float | None = None,
        drop_path: StochasticDepth | float = 0.0,
        rngs: Any = None,
    ) -> None:
        self.norm_position = member("norm", norm, POSITIONS)
        self.activation_position = member("activation", activation, POSITIONS)
        if norm != "none" and features is None:
            raise ValueError(f"features: norm={norm!r} needs the size of the last axis")
        self.branch = branch
        self.pass_key = pass_key
        self.shortcut = nnx.data(shortcut)
        self.activate_shortcut = activate_shortcut
        self.norm = nnx.data(None if norm == "none" else make_norm(features, rngs=rngs))
        self.scale = nnx.data(BranchScale(scale) if isinstance(scale, int | float) else scale)
        if isinstance(drop_path, int | float):
            drop_path_module = StochasticDepth(1 - drop_path, "train") if drop_path else None
        else:
            drop_path_module = drop_path
        self.drop_path = nnx.data(drop_path_module)

    def _at(self, position: str, x: jax.Array) -> jax.Array:
        if self.norm is not None and self.norm_position == position:
            x = self.norm(x)
        return choosing_relu(x) if self.activation_position == position else x

    def __call__(
        self,
        x: jax.Array,
        *args: Any,
        key: jax.Array | None = None,
        rngs: Any = None,
        **kwargs: Any,
    ) -> jax.Array:
        """Apply the branch and join it with the input.

        Args:
            x: float[batch, ...].
            *args, **kwargs: go to the branch.
            key: of stochastic depth and dropout, scalar or [batch]; needed in train mode where there
                is any.
            rngs: instead of `key`: see `stochastic.example_keys`. The branch gets the key alone.
        """
        keys = example_keys(key, x.shape[0], rngs)
        return self.join(*self.split(x, *args, key=keys, **kwargs), key=keys)

    def split(
        self, x: jax.Array, *args: Any, key: jax.Array | None = None, **kwargs: Any
    ) -> tuple[jax.Array, jax.Array]:
        """What is joined: the input of the shortcut, and the branch, scaled and perhaps dropped.

        `join(*split(x))` is the block; to change the branch in between is to study it.

        Args:
            x, *args, key, **kwargs: as of a call.
        """
        keys = example_keys(key, x.shape[0])
        before = self._at("pre", x)
        if self.pass_key:
            kwargs["key"] = fold(keys, _BRANCH)
        branch = self.branch(before, *args, **kwargs)
        if self.scale is not None:
            branch = self.scale(branch)
        if self.drop_path is not None:
            branch = self.drop_path(branch, fold(keys, _DROP_PATH))
        return (before if self.activate_shortcut else x), branch

    def join(self, skip: jax.Array, branch: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """The block's output from what `split` returns; `key` as of a call."""
        if self.shortcut is None:
            joined = skip + branch
        else:
            keys = example_keys(key, skip.shape[0])
            joined = self.shortcut(skip, branch, fold(keys, _SHORTCUT))
        return self._at("post", joined)
