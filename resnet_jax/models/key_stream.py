"""Keys for the parameters of one network."""

import jax
import jax.numpy as jnp


class KeyStream:
    """Stands in for `nnx.Rngs` while a network is built: `params()` is another key at every call.

    `nnx.Rngs` counts in a Variable whose update inspects the whole program traced so far, so that
    tracing the initialisation of n layers takes n² time: three minutes for 1,202 of them.

    Args:
        key: all others are folded from it.
    """

    def __init__(self, key: jax.Array) -> None:
        self._key = key
        self._count = 0

    def params(self) -> jax.Array:
        """The next key."""
        self._count += 1
        return jax.random.fold_in(self._key, self._count)

    def several(self, number: int) -> jax.Array:
        """The next keys, [number], in one operation."""
        first = self._count + 1
        self._count += number
        numbers = jnp.arange(first, first + number)
        return jax.vmap(jax.random.fold_in, (None, 0))(self._key, numbers)
