"""Loss and accuracy of a network whose weights are moved along directions, and the shape of the surface."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from resnet_jax.analysis.batches import in_batches, summed_correct, summed_loss
from resnet_jax.analysis.chain import batch_statistics_view, split_chain
from resnet_jax.analysis.directions import Weights
from resnet_jax.analysis.items import over_items
from resnet_jax.models import ResNet, Views, mean_over_views, one_view
from resnet_jax.training.state import pure_arrays


def losses_at(
    model: ResNet,
    directions: Sequence[Weights],
    places: np.ndarray,
    images: np.ndarray,
    labels: np.ndarray,
    statistics: str = "running",
    batch_size: int = 100,
    run: Callable = over_items,
    views: Views = one_view,
) -> dict[str, np.ndarray]:
    """Loss and accuracy of a network whose weights are moved.

    At a place (a, b, …) the weights are w + a d₁ + b d₂ + …. The program is compiled once for all
    places.

    Args:
        model: in eval mode.
        directions: trees of the shapes of `pure_arrays(model)`.
        places: float[places, directions].
        images: float32[examples, height, width, channels], normalised.
        labels: int32[examples].
        statistics: of batch norms: `running`, the network's, moved along the directions too, as in
            the code of Li et al.; `batch`, of each batch of examples at the place itself.
        batch_size: examples at once; for `batch`, it must divide their number.
        run: computes the items.
        views: of the images, over which logits are averaged.

    Returns:
        `loss` (cross-entropy, nats) and `accuracy` (from 0 to 1): float32[places], NaN where a logit is
        not finite.
    """
    graph = nnx.graphdef(batch_statistics_view(model) if statistics == "batch" else model)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *directions)
    shared = pure_arrays(model), stacked, *in_batches(images, labels, batch_size)
    return run(partial(_loss, graph, views), shared, {"place": np.asarray(places, np.float32)})


def _loss(
    graph: Any, views: Views, shared: Any, item: dict[str, jax.Array]
) -> dict[str, jax.Array]:
    """Mean loss and accuracy at one place."""
    weights, directions, images, labels = shared
    moved = jax.tree.map(lambda w, d: w + jnp.tensordot(item["place"], d, 1), weights, directions)
    model = nnx.merge(graph, moved["params"], moved["batch_stats"])
    # As a chain, a deep network compiles as fast as a shallow one.
    chain, arrays = split_chain(model)

    def of_batch(batch: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        logits = mean_over_views(partial(chain.logits, arrays), views(batch[0]))
        return summed_loss(logits, batch[1]), summed_correct(logits, batch[1])

    losses, correct = lax.map(of_batch, (images, labels))
    count = (labels >= 0).sum()
    return {"loss": losses.sum() / count, "accuracy": correct.sum() / count}


def grid(xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """float[y · x, 2]: all pairs (x, y), x running fastest."""
    return np.stack(np.meshgrid(xs, ys), -1).reshape(-1, 2)


def nonconvex_share(loss: np.ndarray) -> float:
    """How rough a surface is: the share of second differences along its axes that are negative.

    A convex function has none. What is not finite counts as rough.

    Args:
        loss: float[..., points], evenly spaced, three or more along each axis.
    """
    with np.errstate(invalid="ignore"):
        bends = [np.diff(loss, 2, axis).ravel() for axis in range(loss.ndim)]
    return float((~(np.concatenate(bends) >= 0)).mean())


def barrier(loss: np.ndarray) -> float:
    """How far the loss on a straight line rises above that between its ends (Entezari et al. 2022, "The
    Role of Permutation Invariance in Linear Mode Connectivity of Neural Networks", eq. 1).

    Args:
        loss: float[points], evenly spaced from one network to the other.

    Returns:
        max over α of L(α) − (1 − α) L(0) − α L(1); 0 where it never does.
    """
    return float((loss - np.linspace(loss[0], loss[-1], len(loss))).max())
