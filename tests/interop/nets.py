"""Networks of ours that start from NumPy, as initialising by JAX would compile for seconds."""

from functools import lru_cache
from typing import Any

import jax
import numpy as np
from flax import nnx

from resnet_jax import models


def abstract(name: str, **fields: Any) -> models.ResNet:
    """A network of the zoo without arrays."""
    return nnx.eval_shape(lambda: models.create(name, rngs=nnx.Rngs(0), **fields))


@lru_cache
def _split(fields: tuple[tuple[str, Any], ...]) -> tuple[nnx.GraphDef, dict[str, Any]]:
    model = nnx.eval_shape(lambda: models.ResNet(rngs=nnx.Rngs(0), **dict(fields)))
    graph, state = nnx.split(model)
    return graph, nnx.to_pure_dict(state)


def small_net(seed: int = 0, **fields: Any) -> models.ResNet:
    """Two stages, of two and three blocks, and seven classes; random in every array."""
    fields = {"stage_sizes": (2, 3), "widths": (8, 16), "num_classes": 7, "stem": "cifar", **fields}
    graph, shapes = _split(tuple(fields.items()))
    rng = np.random.default_rng(seed)

    def draw(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        return jax.numpy.array(rng.uniform(0.5, 1.5, leaf.shape), leaf.dtype)

    return nnx.merge(graph, jax.tree.map(draw, shapes))


def leaves(model: models.ResNet) -> dict[str, np.ndarray]:
    """All arrays by path."""
    flat = jax.tree.leaves_with_path(nnx.to_pure_dict(nnx.state(model)))
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in flat}


def same_bits(one: models.ResNet, other: models.ResNet) -> bool:
    """Whether all arrays have equal names, types, shapes and bits."""
    a, b = leaves(one), leaves(other)

    def bits(array: np.ndarray) -> tuple[Any, ...]:
        return array.dtype, array.shape, array.tobytes()

    return a.keys() == b.keys() and all(bits(a[name]) == bits(b[name]) for name in a)
