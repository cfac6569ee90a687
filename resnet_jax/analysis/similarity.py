"""How alike the layers of networks are: linear CKA (Kornblith et al. 2019, "Similarity of Neural Network
Representations Revisited", eq. 4) by its unbiased estimate over small batches (Nguyen et al. 2021, "Do Wide and
Deep Networks Learn the Same Things?", eq. 3–5)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from resnet_jax.analysis.batches import BATCH_SIZE
from resnet_jax.analysis.chain import Chain, over_blocks, split_chain
from resnet_jax.analysis.items import over_items
from resnet_jax.models import ResNet

# The unbiased estimate divides by n - 3.
LEAST_EXAMPLES = 4


def gram(features: jax.Array) -> jax.Array:
    """Inner products of examples, about the mean of all.

    Args:
        features: float[examples, ...]; all axes but the first are one.

    Returns:
        float[examples, examples].
    """
    x = features.reshape(len(features), -1)
    x = x.astype(jnp.promote_types(jnp.float32, x.dtype))
    x = x - x.mean(0)
    return jnp.matmul(x, x.T, precision=lax.Precision.HIGHEST)


def hsic(a: jax.Array, b: jax.Array) -> jax.Array:
    """The Hilbert-Schmidt independence criterion of all pairs (Nguyen 2021, eq. 5, after Song et al. 2012).

    Args:
        a: float[layers, examples, examples], Gram matrices.
        b: float[others, examples, examples].

    Returns:
        float[layers, others], unbiased.
    """
    n = a.shape[1]
    off_diagonal = 1 - jnp.eye(n, dtype=a.dtype)
    a, b = a * off_diagonal, b * off_diagonal
    rows_a, rows_b = a.sum(2), b.sum(2)
    product = partial(jnp.matmul, precision=lax.Precision.HIGHEST)
    traces = product(a.reshape(len(a), -1), b.reshape(len(b), -1).T)
    totals = rows_a.sum(1)[:, None] * rows_b.sum(1) / ((n - 1) * (n - 2))
    return (traces + totals - 2 / (n - 2) * product(rows_a, rows_b.T)) / (n * (n - 3))


def cka(batches: np.ndarray) -> np.ndarray:
    """Centred kernel alignment from `hsic` of batches (Nguyen 2021, eq. 3).

    Args:
        batches: float[batches, layers, layers].

    Returns:
        float64[layers, layers]; NaN for a layer that puts out the same for all examples.
    """
    mean = np.asarray(batches, np.float64).mean(0)
    own = mean.diagonal()
    scale = np.sqrt(np.where(own > 0, own, np.nan))
    return mean / scale[:, None] / scale


def layer_similarity(
    models: Sequence[ResNet],
    images: np.ndarray,
    batch_size: int = BATCH_SIZE,
    run: Callable[..., dict[str, np.ndarray]] = over_items,
) -> np.ndarray:
    """Linear CKA between what the stem and every block of networks put out.

    Args:
        models: in eval mode; all take the same images.
        images: float32[examples, height, width, channels], at least 4; what does not fill a batch is
            left out.
        batch_size: at most.
        run: computes the items.

    Returns:
        float64[layers, layers], over the layers of all networks in turn, where a network has its stem
        and its blocks. About 0: not alike; 1: equal but for a rotation and one scale.
    """
    size = min(batch_size, len(images))
    batches = images[: len(images) // size * size].reshape(-1, size, *images.shape[1:])
    chains, weights = zip(*map(split_chain, models), strict=True)
    found = run(partial(_hsic_of_batch, chains), weights, {"images": batches})["hsic"]
    return cka(found)


def _hsic_of_batch(
    chains: Sequence[Chain], weights: Sequence[Any], item: dict[str, jax.Array]
) -> dict[str, jax.Array]:
    grams = jnp.concatenate(
        [_grams(chain, own, item["images"]) for chain, own in zip(chains, weights, strict=True)]
    )
    return {"hsic": hsic(grams, grams)}


def _grams(chain: Chain, weights: Any, images: jax.Array) -> jax.Array:
    def step(block: Any, x: jax.Array, _: Any) -> tuple[jax.Array, jax.Array]:
        y = block(x)
        return y, gram(y)

    x = chain.stem(weights, images)
    _, kept = chain.blocks(weights, x, step)
    return jnp.concatenate([gram(x)[None], over_blocks(kept)])
