"""Directions in the space of a network's weights.

Weights are trees `{"params", "batch_stats"}` of arrays; a direction is a tree of the same shapes.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from sklearn.decomposition import PCA

Weights = dict[str, Any]
TINY = 1e-10


def random_directions(weights: Weights, count: int, seed: int) -> list[Weights]:
    """Gaussian directions with the norms of the network's filters (Li et al. 2018, §4).

    A filter is what makes one output: d_ij ← d_ij / ‖d_ij‖ · ‖w_ij‖ for the j-th output channel of the
    i-th convolution, or output unit of a dense layer. The direction is zero for everything but kernels:
    biases, norms, learned scales and running statistics.

    Args:
        weights: of the network.
        count: of directions.
        seed: networks of equal shapes get the same draws.
    """
    generator = np.random.default_rng(seed)

    def leaf(path: Any, weight: jax.Array) -> np.ndarray:
        if path[-1].key != "kernel":
            return np.zeros(weight.shape, np.float32)
        draw = generator.standard_normal(weight.shape, np.float32)
        norms = filter_norms(path, draw)
        return draw * (filter_norms(path, weight) / (norms + TINY))

    return [jax.tree.map_with_path(leaf, weights) for _ in range(count)]


def filter_norms(path: Any, kernel: Any) -> np.ndarray:
    """Euclidean norm of every filter of a kernel.

    Args:
        path: of the kernel in its tree; `scanned` has a leading axis over blocks.
        kernel: [blocks, ]…, outputs.

    Returns:
        [blocks, ]1, …, outputs.
    """
    first = int(any(getattr(part, "key", None) == "scanned" for part in path))
    axes = tuple(range(first, np.ndim(kernel) - 1))
    return np.sqrt(np.square(np.asarray(kernel)).sum(axes, keepdims=True))


def straight_line(start: Weights, end: Weights) -> Weights:
    """The direction from one network to another of the same shapes, running statistics included."""
    return jax.tree.map(lambda a, b: np.asarray(b) - np.asarray(a), start, end)


class Course(NamedTuple):
    """The plane that lies closest to a course of training.

    Attributes:
        directions: two, of norm 1.
        positions: float32[steps, 2], of the networks in the plane, as seen from the last.
        explained: float32[2], share of the variance of the networks along each direction.
    """

    directions: list[Weights]
    positions: np.ndarray
    explained: np.ndarray


def principal_plane(course: Sequence[Weights]) -> Course:
    """The first two principal components of w_i − w_last (Li et al. 2018, §7.2).

    Args:
        course: weights at each step, three at least; of the last the plane's origin. Trained parameters
            count, running statistics do not: the directions are zero there.
    """
    last = course[-1]
    differences = np.stack([_flat(w["params"]) - _flat(last["params"]) for w in course])
    # The networks are few: an exact decomposition is cheap whatever their size.
    found = PCA(2, svd_solver="full").fit(differences)
    components = np.asarray(found.components_, np.float32)
    directions = [
        {
            "params": _unflat(component, last["params"]),
            "batch_stats": jax.tree.map(np.zeros_like, last["batch_stats"]),
        }
        for component in components
    ]
    explained = np.asarray(found.explained_variance_ratio_, np.float32)
    return Course(directions, differences @ components.T, explained)


def _flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def _unflat(vector: np.ndarray, tree: Any) -> Any:
    leaves, structure = jax.tree.flatten(tree)
    ends = np.cumsum([np.size(leaf) for leaf in leaves])
    parts = np.split(vector, ends[:-1])
    shaped = [part.reshape(np.shape(leaf)) for part, leaf in zip(parts, leaves, strict=True)]
    return jax.tree.unflatten(structure, shaped)
