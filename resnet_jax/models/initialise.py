"""Fresh weights, fast."""

from collections.abc import Callable
from typing import TypeVar

import jax
from flax import nnx

from resnet_jax.models.compilation import compile_for_initialisation

M = TypeVar("M", bound=nnx.Module)


def initialise(build: Callable[[nnx.Rngs], M], key: jax.Array | int = 0) -> M:
    """A module with fresh weights, in one compiled call instead of one a layer.

    Args:
        build: makes the module from its `nnx.Rngs`.
        key: seed or key of the `nnx.Rngs`.

    Example:
        >>> model = initialise(lambda rngs: resnet("wide", 16, width_factor=4, rngs=rngs))
    """
    key = jax.random.key(key) if isinstance(key, int) else key
    if isinstance(key, jax.core.Tracer):
        return build(nnx.Rngs(key))  # Within a transformation, as `nnx.eval_shape`, nothing runs.
    graphdef = nnx.graphdef(nnx.eval_shape(lambda: build(nnx.Rngs(0))))
    arrays = compile_for_initialisation(
        lambda key: nnx.to_pure_dict(nnx.state(build(nnx.Rngs(key))))
    )
    return nnx.merge(graphdef, arrays(key))
