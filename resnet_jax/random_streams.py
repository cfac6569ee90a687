"""Randomness: every random number is a function of (seed, stream, step) and of nothing else.

No random state is carried or saved, so a run that goes on from a checkpoint draws what the
undisturbed run would have drawn.
"""

import jax

INIT = 0
ORDER = 1
AUGMENT = 2
DROPOUT = 3


def stream_key(seed: int, stream: int, step: int | jax.Array) -> jax.Array:
    """The key of one step of one stream: `fold_in(fold_in(key(seed), stream), step)`.

    Args:
        seed: of the run.
        stream: a constant of this module.
        step: optimiser step, epoch, or whatever counts the stream.
    """
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), stream), step)
