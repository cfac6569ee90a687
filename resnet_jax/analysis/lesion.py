"""Error after deleting blocks (Veit et al. 2016, "Residual Networks Behave Like Ensembles of Relatively
Shallow Networks", §4)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from resnet_jax.analysis.batches import in_batches
from resnet_jax.analysis.chain import Chain, split_chain
from resnet_jax.analysis.items import over_items
from resnet_jax.analysis.plots.lesion import deletion_figure
from resnet_jax.analysis.request import Answer, Named, Request, drawn
from resnet_jax.models import ResNet


def keep_block(plain: bool, block: Any, x: jax.Array, keep: jax.Array) -> tuple[jax.Array, None]:
    """A block as it is where `keep` is 1, and without its branch where it is 0: y = shortcut(x).

    A plain block has nothing but its branch; deleted, it passes x on where the shape allows it, and
    zeros where not.

    Args:
        plain: whether the block is plain.
        block: a `models.Residual`.
        x: float[batch, height, width, channels].
        keep: scalar.
    """
    skip, branch = block.split(x)
    if plain and x.shape == branch.shape:
        return jnp.where(keep, block.join(skip, branch), x), None
    return block.join(skip, (keep * branch).astype(branch.dtype)), None


def delete_each(
    model: ResNet, images: np.ndarray, labels: np.ndarray, run: Callable = over_items
) -> dict[str, np.ndarray]:
    """Error after deleting each block alone.

    Args:
        model: in eval mode.
        images: float32[examples, height, width, channels], normalised.
        labels: int32[examples].
        run: computes the items.

    Returns:
        `error`: float32[blocks + 1], share of wrong answers from 0 to 1; the last: nothing is deleted.
    """
    chain, weights = split_chain(model)
    keep = np.ones((chain.num_blocks + 1, chain.num_blocks), np.float32)
    np.fill_diagonal(keep, 0)
    shared = weights, *in_batches(images, labels)
    return run(partial(_error, chain), shared, {"keep": keep})


def _error(chain: Chain, shared: Any, item: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Share of wrong answers with some branches deleted."""
    weights, images, labels = shared

    def wrong(batch: tuple[jax.Array, jax.Array]) -> jax.Array:
        logits = chain.logits(weights, batch[0], partial(keep_block, chain.plain), item["keep"])
        return ((logits.argmax(-1) != batch[1]) & (batch[1] >= 0)).sum()

    count = (labels >= 0).sum()
    return {"error": lax.map(wrong, (images, labels)).sum() / count}


def analyze(request: Request) -> Answer:
    """Lesion curves of all networks."""
    request.one_data_set()
    examples = request.examples(request.subjects[0])
    arrays, results = {}, {}
    for subject in request.subjects:
        run = partial(request.over_items, subject, "delete each")
        error = delete_each(subject.model, examples.images, examples.labels, run)["error"]
        arrays[f"{subject.name}/deletion_error"] = Named(
            error[:-1], ("block",), "share of examples"
        )
        arrays[f"{subject.name}/error"] = Named(error[-1], (), "share of examples")
        results[subject.name] = {"error": float(error[-1]), "worst": float(error[:-1].max())}
    with drawn():
        figures = [deletion_figure(arrays, [s.name for s in request.subjects])]
    return Answer(arrays, results, figures, examples.facts)
