"""Normalisation layers."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax


class BatchNorm(nnx.Module):
    """Batch normalisation over all axes but the last (Ioffe & Szegedy 2015, algorithms 1 and 2).

    Unlike `nnx.BatchNorm`, statistics are computed and kept in float32 whatever the compute type,
    the running variance is the unbiased estimate (algorithm 2, as in PyTorch), and tracing a deep
    net stays cheap. It follows the NNX modes: `model.train()`, `model.eval()`, `nnx.view`.

    Args:
        num_features: size of the last axis.
        momentum: weight of the old running statistic in an update (0.9 in the code of He 2015).
        epsilon: added to the variance.
        initial_scale: γ at the start; 0 for the zero-γ initialisation (Goyal 2017, §5.1).
        axis_name: mapped axis (`pmap`, `shard_map`, `vmap`) over which batch statistics are
            averaged; `None` keeps them per device under those. Under `jit` they are always global.
        dtype: type of the output; `None` keeps that of the input.
        use_running_average: normalise by the running statistics and leave them as they are.
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
        rngs: Any = None,
    ) -> None:
        del rngs
        self.scale = nnx.Param(jnp.full(num_features, initial_scale, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(num_features, jnp.float32))
        self.mean = nnx.BatchStat(jnp.zeros(num_features, jnp.float32))
        self.var = nnx.BatchStat(jnp.ones(num_features, jnp.float32))
        self.momentum = momentum
        self.epsilon = epsilon
        self.axis_name = axis_name
        self.dtype = dtype
        self.use_running_average = use_running_average

    def set_view(self, use_running_average: bool | None = None, **others: Any) -> dict:
        """Set the mode through `nnx.view`.

        Args:
            use_running_average: normalise by the running statistics.
        """
        if use_running_average is not None:
            self.use_running_average = use_running_average
        return others

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalise x: float[..., num_features]; in train mode, also update the running statistics."""
        out_dtype = self.dtype or x.dtype
        x = x.astype(jnp.promote_types(jnp.float32, x.dtype))
        if self.use_running_average:
            mean, var = self.mean.get_value(), self.var.get_value()
        else:
            mean, var = self._batch_statistics(x)
        factor = self.scale.get_value() * lax.rsqrt(var + self.epsilon)
        return ((x - mean) * factor + self.bias.get_value()).astype(out_dtype)

    def _batch_statistics(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        axes = tuple(range(x.ndim - 1))
        moments = x.mean(axes), jnp.square(x).mean(axes)
        count = x.size // x.shape[-1]
        if self.axis_name is not None:
            moments = lax.pmean(moments, self.axis_name)
            count *= lax.axis_size(self.axis_name)
        mean, mean_square = moments
        var = jnp.maximum(mean_square - jnp.square(mean), 0.0)
        self._track(self.mean, mean)
        self._track(self.var, var * (count / max(count - 1, 1)))
        return mean, var

    def _track(self, running: nnx.Variable, batch: jax.Array) -> None:
        old = running.get_value()
        new = self.momentum * old + (1.0 - self.momentum) * lax.stop_gradient(batch)
        # `set_value` and not `[...] =`, which probes the tracer: quadratic in the depth of the net.
        running.set_value(new.astype(old.dtype))
