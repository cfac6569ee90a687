"""Randomness: every random number is a function of (seed, stream, step) and of nothing else.

No random state is carried or saved, so a run that goes on from a checkpoint draws what the
undisturbed run would have drawn.
"""

import jax

INIT = 0
ORDER = 1
AUGMENT = 2
DROPOUT = 3
COLOUR = 4
MIX = 5


def run_key(seed: int) -> jax.Array:
    """The key of a run, from 0 ≤ seed < 2**32.

    It, and not the seed, enters compiled functions: these would refuse a seed of 2**31 or more.
    """
    return jax.random.key(seed)


def stream_key(key: jax.Array, stream: int, step: int | jax.Array) -> jax.Array:
    """The key of one step of one stream: `fold_in(fold_in(run_key(seed), stream), step)`.

    Args:
        key: of the run, `run_key(seed)`.
        stream: a constant of this module.
        step: optimiser step, epoch, or whatever counts the stream.
    """
    return jax.random.fold_in(jax.random.fold_in(key, stream), step)
