"""Correlation of the gradients at neighbouring inputs (Balduzzi et al. 2017, "The Shattered Gradients
Problem", §1 and §3): brown noise in shallow and residual nets, white noise in deep plain ones."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from resnet_jax import models
from resnet_jax.analysis.chain import Chain, split_chain
from resnet_jax.analysis.items import over_items
from resnet_jax.analysis.subject import Examples
from resnet_jax.analysis.taps import norm, tap

# Lines of one batch; together they are about as many examples as a batch of training.
LINES = 8
POINTS = 16


def gradient_correlation(
    model: models.ResNet,
    examples: Examples,
    num_lines: int,
    seed: int = 0,
    run: Callable = over_items,
) -> dict[str, np.ndarray]:
    """Cosine between gradients at two points of a line, by their distance.

    A line of `POINTS` inputs leads from one example to another. The gradient is taken of the logit of
    the first one's class.

    Args:
        model: in eval mode, or a `batch_statistics_view`: then a batch is `LINES` lines.
        examples: of which the ends are drawn; two or more.
        num_lines: how many, rounded up to whole batches.
        seed: of the draw.
        run: computes the items.

    Returns:
        `gradient_correlation`: float32[blocks + 2, POINTS], mean over lines and pairs of points, of the
        gradient with respect to the image, the stem's output and each block's;
        `distance`: float32[POINTS], as a share of the distance of the two examples.
    """
    chain, weights = split_chain(model)
    batches = -(-num_lines // LINES)
    rng = np.random.default_rng(seed)
    count = len(examples.labels)
    start = rng.integers(count, size=(batches, LINES))
    end = (start + rng.integers(1, count, size=start.shape)) % count
    images, labels = examples.images, examples.labels
    items = {"from": images[start], "to": images[end], "labels": labels[start]}
    cosines = run(partial(_correlation, chain), weights, items)["cosine"]
    distance = np.linspace(0, 1, POINTS, dtype=np.float32)
    return {"gradient_correlation": cosines.mean(0), "distance": distance}


def _correlation(chain: Chain, weights: Any, item: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """float32[blocks + 2, POINTS] of one batch of lines."""
    start, end = item["from"][:, None], item["to"][:, None]
    share = jnp.linspace(0, 1, POINTS, dtype=start.dtype).reshape(1, -1, 1, 1, 1)
    images = (start + share * (end - start)).reshape(-1, *start.shape[2:])
    slot = jnp.zeros(POINTS)
    slots = {"stem": slot, "blocks": jnp.zeros((chain.num_blocks, POINTS))}

    def logits(images: jax.Array, slots: dict[str, jax.Array]) -> jax.Array:
        x = tap(cosine_by_distance, chain.stem(weights, images), slots["stem"])
        x, _ = chain.blocks(weights, x, _tapped_output, slots["blocks"])
        labels = jnp.repeat(item["labels"], POINTS)
        return jnp.take_along_axis(chain.head(weights, x), labels[:, None], 1).sum()

    image_gradient, found = jax.grad(logits, (0, 1))(images, slots)
    outer = jnp.stack([cosine_by_distance(image_gradient), found["stem"]])
    return {"cosine": jnp.concatenate([outer, found["blocks"]])}


def _tapped_output(block: Any, x: jax.Array, slot: jax.Array) -> tuple[jax.Array, None]:
    return tap(cosine_by_distance, block(x), slot), None


def cosine_by_distance(gradients: jax.Array) -> jax.Array:
    """Cosine between the gradients at points of one line, mean over pairs of equal distance.

    Args:
        gradients: float[lines × POINTS, ...].

    Returns:
        float32[POINTS], for points that are 0, 1, 2, … apart; without those where a gradient is 0,
        and NaN where none is left.
    """
    lines = gradients.reshape(-1, POINTS, gradients[0].size)
    lines = lines.astype(jnp.promote_types(jnp.float32, lines.dtype))
    sizes = jax.vmap(jax.vmap(norm))(lines)
    lines /= jnp.maximum(sizes, jnp.finfo(sizes.dtype).tiny)[..., None]
    there = (sizes > 0).astype(lines.dtype)
    cosine = jnp.einsum("lif,ljf->ij", lines, lines)
    pairs = jnp.einsum("li,lj->ij", there, there)
    return jnp.stack(
        [jnp.diagonal(cosine, k).sum() / jnp.diagonal(pairs, k).sum() for k in range(POINTS)]
    )
