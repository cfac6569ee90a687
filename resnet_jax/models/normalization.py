"""Normalisation layers, and what stands in their place in nets without any."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from resnet_jax.models.choices import IllegalChoiceError, pick


class DegenerateStatisticsError(ValueError):
    """A norm was given one value for each of its statistics: its output would be its bias."""


# Marks parameters that do not train (`freeze.trainable`).
FROZEN = {"frozen": True}


class BatchNorm(nnx.Module):
    """Batch normalisation over all axes but the last (Ioffe & Szegedy 2015, algorithms 1 and 2).

    Unlike `nnx.BatchNorm`, statistics are computed and kept in float32 whatever the compute type,
    the variance is accurate where the mean is far larger than the standard deviation, the running
    variance is the unbiased estimate (algorithm 2, as in PyTorch), and tracing a deep net stays
    cheap. It follows the NNX modes: `model.train()`, `model.eval()`, `nnx.view`.

    Args:
        num_features: size of the last axis.
        momentum: weight of the old running statistic in an update (0.9 in the code of He 2015).
        epsilon: added to the variance.
        initial_scale: γ at the start; 0 for the zero-γ initialisation (Goyal 2017, §5.1).
        axis_name: mapped axis (`pmap`, `shard_map`, `vmap`) over which batch statistics are
            averaged; `None` keeps them per device under those. Under `jit` they are always global.
        dtype: type of the output; `None` keeps the input's.
        use_running_average: normalise by the running statistics and do not update them.
        frozen: do so in train mode too, and mark γ and β as frozen (`freeze.trainable`).
        rngs: accepted as by every layer; nothing is drawn.
    """

    def __init__(
        self,
        num_features: int,
        *,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        initial_scale: float = 1.0,
        axis_name: str | None = None,
        dtype: Any = None,
        use_running_average: bool = False,
        frozen: bool = False,
        rngs: Any = None,
    ) -> None:
        del rngs
        marks = FROZEN if frozen else {}
        self.scale = nnx.Param(jnp.full(num_features, initial_scale, jnp.float32), **marks)
        self.bias = nnx.Param(jnp.zeros(num_features, jnp.float32), **marks)
        self.mean = nnx.BatchStat(jnp.zeros(num_features, jnp.float32))
        self.var = nnx.BatchStat(jnp.ones(num_features, jnp.float32))
        self.momentum = momentum
        self.epsilon = epsilon
        self.axis_name = axis_name
        self.dtype = dtype
        self.use_running_average = use_running_average
        self.frozen = frozen

    def set_view(self, use_running_average: bool | None = None, **others: Any) -> dict[str, Any]:
        """Set the mode through `nnx.view`.

        Args:
            use_running_average: normalise by the running statistics.
        """
        if use_running_average is not None:
            self.use_running_average = use_running_average
        return others

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalise x; in train mode, also update the running statistics.

        Args:
            x: float[..., num_features].

        Returns:
            An array of the same shape, of type `dtype`.

        Raises:
            DegenerateStatisticsError: in train mode, one value per channel.
        """
        out_dtype = self.dtype or x.dtype
        x = x.astype(jnp.promote_types(jnp.float32, x.dtype))
        if self.use_running_average or self.frozen:
            mean, var = self.mean.get_value(), self.var.get_value()
        else:
            mean, var = self._batch_statistics(x)
        factor = self.scale.get_value() * lax.rsqrt(var + self.epsilon)
        # Not (x - mean) * factor: the backward pass would keep x - mean as one more array.
        return (x * factor + (self.bias.get_value() - mean * factor)).astype(out_dtype)

    def _batch_statistics(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        axes = tuple(range(x.ndim - 1))
        count = x.size // x.shape[-1]
        count *= 1 if self.axis_name is None else lax.axis_size(self.axis_name)
        if count == 1:
            problem = "one value per channel has no batch statistics"
            raise DegenerateStatisticsError(f"{problem}: the input has the shape {x.shape}")
        shift = self._over_devices(_rough_mean(x))
        moments = x.mean(axes), _mean_square(x, shift)
        mean, mean_square = self._over_devices(moments)
        var = jnp.maximum(mean_square - jnp.square(mean - shift), 0.0)
        self._track(self.mean, mean)
        self._track(self.var, var * (count / (count - 1)))
        return mean, var

    def _over_devices(self, means: Any) -> Any:
        return means if self.axis_name is None else lax.pmean(means, self.axis_name)

    def _track(self, running: nnx.Variable[Any], batch: jax.Array) -> None:
        old = running.get_value()
        new = self.momentum * old + (1.0 - self.momentum) * lax.stop_gradient(batch)
        # `set_value` and not `[...] =`, which probes the tracer: quadratic in the depth of the net.
        running.set_value(new.astype(old.dtype))


def _rough_mean(x: jax.Array) -> jax.Array:
    """The mean of the central pixels of all examples, as a constant: float[channels].

    It is at most √(pixels) standard deviations from the mean of all pixels.
    """
    centre = x[(slice(None), *(size // 2 for size in x.shape[1:-1]))]
    return lax.stop_gradient(centre.reshape(-1, x.shape[-1]).mean(0))


@jax.custom_jvp
def _mean_square(x: jax.Array, shift: jax.Array) -> jax.Array:
    """Mean of (x - shift)² over all axes but the last; `shift` is a constant.

    About zero instead, the mean square would lose the variance where the mean is large.
    """
    return jnp.square(x - shift).mean(tuple(range(x.ndim - 1)))


@_mean_square.defjvp
def _mean_square_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    # JAX's own rule is the same, but would keep x - shift for the backward pass in addition to x.
    (x, shift), (dx, _) = primals, tangents
    axes = tuple(range(x.ndim - 1))
    return _mean_square(x, shift), 2 * ((x * dx).mean(axes) - shift * dx.mean(axes))


class NoNorm(nnx.Module):
    """The identity, for nets without normalisation."""

    def __init__(self, num_features: int, *, initial_scale: float = 1.0, rngs: Any = None) -> None:
        del num_features, initial_scale, rngs

    def __call__(self, x: jax.Array) -> jax.Array:
        return x


class ScalarBias(nnx.Module):
    """x + b with one number b, 0 at the start (Zhang et al. 2019, "Fixup Initialization", §3, rule 3)."""

    def __init__(self, num_features: int = 0, *, rngs: Any = None) -> None:
        del num_features, rngs
        self.bias = nnx.Param(jnp.zeros((), jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.bias.get_value().astype(x.dtype)


class ScalarAffine(nnx.Module):
    """s x + b with two numbers, 1 and 0 at the start: the end of a Fixup branch (rule 3)."""

    def __init__(self) -> None:
        self.scale = nnx.Param(jnp.ones((), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((), jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        return x * self.scale.get_value().astype(x.dtype) + self.bias.get_value().astype(x.dtype)


class GroupNorm(nnx.GroupNorm):
    """`nnx.GroupNorm` that refuses groups of one value."""

    def __call__(self, x: jax.Array, **options: Any) -> jax.Array:
        """Normalise x: float[batch, ..., num_features].

        Raises:
            DegenerateStatisticsError: a group of an example has one value.
        """
        if math.prod(x.shape[1:]) == self.num_groups:
            problem = "one value per group has no statistics"
            raise DegenerateStatisticsError(f"{problem}: the input has the shape {x.shape}")
        return super().__call__(x, **options)


def _group_norm(
    num_features: int,
    *,
    num_groups: int | None,
    epsilon: float,
    dtype: Any,
    initial_scale: float = 1.0,
    rngs: nnx.Rngs,
) -> GroupNorm:
    default = math.gcd(32, num_features // 4, num_features)
    groups = default if num_groups is None else num_groups
    if num_features % groups:
        allowed = f"a divisor of every width, so of {num_features} too"
        raise IllegalChoiceError("norm_groups", num_groups, allowed)
    return GroupNorm(
        num_features,
        groups,
        epsilon=epsilon,
        dtype=dtype,
        use_fast_variance=False,
        scale_init=jax.nn.initializers.constant(initial_scale),
        rngs=rngs,
    )


Make = Callable[..., nnx.Module]


def _batch(*, num_groups: None, frozen: bool = False, **fields: Any) -> Make:
    del num_groups
    return partial(BatchNorm, frozen=frozen, **fields)


def _group(*, num_groups: int | None, epsilon: float, dtype: Any, **fields: Any) -> Make:
    del fields
    return partial(_group_norm, num_groups=num_groups, epsilon=epsilon, dtype=dtype)


def _layer(**fields: Any) -> Make:
    return _group(**fields | {"num_groups": 1})


def _none(**fields: Any) -> Make:
    del fields
    return NoNorm


NORMS: dict[str, Callable[..., Make]] = {
    "batch": _batch,
    "frozen_batch": partial(_batch, frozen=True),
    "group": _group,
    "layer": _layer,
    "none": _none,
}


def norm_factory(
    kind: str,
    *,
    momentum: float = 0.9,
    epsilon: float = 1e-5,
    axis_name: str | None = None,
    num_groups: int | None = None,
    dtype: Any = None,
) -> Make:
    """How the norms of a network are made: a function of (num_features, initial_scale, rngs).

    Args:
        kind: `batch`; `frozen_batch` (its statistics, γ and β never change: for fine-tuning);
            `group` (Wu & He 2018, eq. 7); `layer` (over height, width and channels, which is one
            group: Wu & He 2018, §3); `none`.
        momentum, epsilon, axis_name: see `BatchNorm`.
        num_groups: of `group`; None: 32, or fewer so that a group has at least four channels.
        dtype: type of the output.

    Raises:
        IllegalChoiceError: no such kind, or groups for a kind that has none.
    """
    make = pick("norm", kind, NORMS)
    if num_groups is not None and kind != "group":
        raise IllegalChoiceError("norm_groups", num_groups, f"None, for norm {kind!r}")
    options = {"momentum": momentum, "epsilon": epsilon, "axis_name": axis_name, "dtype": dtype}
    return make(num_groups=num_groups, **options)
