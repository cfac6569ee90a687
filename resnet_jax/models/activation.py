"""The ReLU at the ends of residual blocks."""

import jax
import jax.numpy as jnp


@jax.custom_jvp
def choosing_relu(x: jax.Array) -> jax.Array:
    """max(x, 0), as `jax.nn.relu` in values and derivatives: that at 0 is 0.

    Stated as a choice between two arrays, because XLA's CPU backend computes the maximum of an array and
    a constant again wherever it is used: after an addition, as at the end of a residual block, each
    block would then compute all blocks of the stage before it again.

    Args:
        x: float[...].
    """
    return jnp.where(x <= 0, jnp.zeros((), x.dtype), x)


@choosing_relu.defjvp
def _derivative(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (x,), (tangent,) = primals, tangents
    return choosing_relu(x), jnp.where(x > 0, tangent, jnp.zeros((), tangent.dtype))
