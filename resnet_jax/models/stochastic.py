"""Layers that draw random numbers in train mode, by one key an example.

A key an example, and not one a batch, makes a mask depend on nothing but the example's own key: it
is the same on one device and on many.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from resnet_jax.models.choices import IllegalChoiceError, member, pick
from resnet_jax.models.spec import BlockSpec


def draws(module: nnx.Module) -> bool:
    """Whether a module has dropout or stochastic depth in train mode."""
    modules = (part for _, part in nnx.iter_modules(module))
    return any(isinstance(part, _Stochastic) and not part.deterministic for part in modules)


def example_keys(key: jax.Array | None, batch_size: int, rngs: Any = None) -> jax.Array | None:
    """One key an example: `key[batch]` itself, or a scalar key folded with the example's place.

    Args:
        key: typed key (`jax.random.key`), scalar or [batch]; None without `rngs` stays None.
        batch_size: number of examples.
        rngs: instead of `key`, as `nnx.Dropout` takes it: an `nnx.Rngs`, whose stream `dropout` gives
            the next key; an `nnx.RngStream`; or a key.

    Raises:
        ValueError: both `key` and `rngs` are given.
    """
    if rngs is not None:
        if key is not None:
            raise ValueError("key and rngs: give one of them, not both")
        stream = rngs.dropout if isinstance(rngs, nnx.Rngs) else rngs
        key = stream() if isinstance(stream, nnx.RngStream) else stream
    if key is None or key.ndim:
        return key
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(batch_size))


def fold(keys: jax.Array | None, number: int | jax.Array) -> jax.Array | None:
    """Other keys for another use of them, [batch]; None stays None."""
    return None if keys is None else jax.vmap(jax.random.fold_in, (0, None))(keys, number)


class _Stochastic(nnx.Module):
    deterministic: bool

    def set_view(self, deterministic: bool | None = None, **others: Any) -> dict[str, Any]:
        """Set the mode through `nnx.view`.

        Args:
            deterministic: draw nothing, as in evaluation.
        """
        if deterministic is not None:
            self.deterministic = deterministic
        return others

    def _needed(self, key: jax.Array | None, rngs: Any, batch_size: int) -> jax.Array:
        keys = example_keys(key, batch_size, rngs)
        if keys is None:
            raise ValueError(
                f"{type(self).__name__} needs a key in train mode: call model(x, key=jax.random.key(0)) "
                "or model(x, rngs=nnx.Rngs(dropout=0)), or model.eval() first"
            )
        return keys


class Dropout(_Stochastic):
    """Zeroes entries with probability `rate` and scales the others by 1 / (1 − rate) (Srivastava 2014).

    Args:
        rate: probability of zero, below 1.

    Raises:
        IllegalChoiceError: another rate.
    """

    def __init__(self, rate: float) -> None:
        if not 0 <= rate < 1:
            raise IllegalChoiceError("dropout", rate, "from 0 to 1, without 1")
        self.rate = rate
        self.deterministic = False

    def __call__(
        self, x: jax.Array, key: jax.Array | None = None, *, rngs: Any = None
    ) -> jax.Array:
        """x: float[batch, ...]; key (scalar or [batch]) or rngs (`example_keys`): needed in train mode."""
        if self.deterministic or self.rate == 0:
            return x
        keys = self._needed(key, rngs, x.shape[0])
        keep = jax.vmap(lambda k: jax.random.bernoulli(k, 1 - self.rate, x.shape[1:]))(keys)
        return jnp.where(keep, x / (1 - self.rate), 0)


def linear_decay(stage_sizes: Sequence[int], last: Any) -> list[tuple[Any, ...]]:
    """Survival probability of every block by stage (Huang et al. 2016, eq. 4); `last` may be traced."""
    num_blocks = sum(stage_sizes)
    starts = [sum(stage_sizes[:index]) for index in range(len(stage_sizes))]
    return [
        tuple(1 - (start + block + 1) / num_blocks * (1 - last) for block in range(size))
        for start, size in zip(starts, stage_sizes, strict=True)
    ]


SCALINGS = {"test": False, "train": True}


class StochasticDepth(_Stochastic):
    """Drops the whole branch of an example with probability 1 − p (Huang et al. 2016, §3).

    The paper draws once a mini-batch; here each example draws for itself, which has the same
    expectation and less noise.

    Args:
        survival_probability: p, above 0.
        scaling: `test`: the branch is scaled by p in evaluation (eq. 5); `train`: it is scaled by
            1 / p in training instead ("drop path").

    Raises:
        IllegalChoiceError: no such scaling or probability.
    """

    def __init__(self, survival_probability: float, scaling: str = "test") -> None:
        if not 0 < survival_probability <= 1:
            allowed = "greater than 0, at most 1"
            raise IllegalChoiceError("survival_probability", survival_probability, allowed)
        self.survival_probability: float | jax.Array = survival_probability
        self.scales_in_training = pick("stochastic_depth_scaling", scaling, SCALINGS)
        self.deterministic = False

    def set_survival(self, probability: float | jax.Array) -> None:
        """Replace p; an array, also a traced one, becomes a leaf of the module's state."""
        mark = nnx.data if isinstance(probability, jax.Array) else nnx.static
        self.survival_probability = mark(probability)

    def __call__(
        self,
        branch: jax.Array,
        key: jax.Array | None = None,
        *,
        rngs: Any = None,
    ) -> jax.Array:
        """Drop or scale a branch.

        Args:
            branch: float[batch, ...].
            key, rngs: as of `example_keys`; one of them is needed in train mode.
        """
        p = jnp.asarray(self.survival_probability, jnp.float32)
        if self.deterministic:
            return branch if self.scales_in_training else (branch * p).astype(branch.dtype)
        keys = self._needed(key, rngs, branch.shape[0])
        keep = jax.vmap(lambda k: jax.random.bernoulli(k, p))(keys)
        keep = keep.reshape(-1, *[1] * (branch.ndim - 1))
        if self.scales_in_training:
            branch = (branch / p).astype(branch.dtype)
        return jnp.where(keep, branch, 0)


def stochastic_depth(spec: BlockSpec) -> StochasticDepth | None:
    """The stochastic depth of a block's branch; None where it always survives."""
    scaling = member("stochastic_depth_scaling", spec.stochastic_depth_scaling, SCALINGS)
    p = spec.survival_probability
    return None if p == 1 else StochasticDepth(p, scaling)
