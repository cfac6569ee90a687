"""How long the paths are through a residual network, and which of them carry the gradient (Veit et al.
2016, "Residual Networks Behave Like Ensembles of Relatively Shallow Networks", §3 and §5).

Every block is crossed through its branch or by its skip, so L blocks have 2^L paths, and the gradient is
the sum of what comes back through each of them. A path's length is the number of branches on it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from resnet_jax.analysis.batches import in_batches
from resnet_jax.analysis.chain import Chain, Weights, split_chain
from resnet_jax.analysis.items import over_items
from resnet_jax.analysis.request import Answer, Named, Request
from resnet_jax.analysis.taps import norm
from resnet_jax.errors import UserError
from resnet_jax.models import ResNet
from resnet_jax.plotting.scales import count_axis, size_axis
from resnet_jax.plotting.style import Figure, canvas_of, looks_of, shared_legend

# The forward pass of these paths is one.
TOGETHER = 8
BATCH_SIZE = 64
MIDDLE = 0.9


def path_share(num_blocks: int) -> np.ndarray:
    """Share of all paths that have each length: C(L, k) / 2^L (Veit 2016, §5, Fig. 6a).

    Args:
        num_blocks: L.

    Returns:
        float64[L + 1], by length; sums to 1.
    """
    return np.array([math.comb(num_blocks, k) / 2**num_blocks for k in range(num_blocks + 1)])


def sample_paths(num_blocks: int, count: int, seed: int) -> np.ndarray:
    """Random paths of each length.

    Args:
        num_blocks: L.
        count: of each length; the same one may be drawn twice.
        seed: of the draws.

    Returns:
        bool[L + 1, count, L], True: the path goes through the branch of the block.
    """
    rng = np.random.default_rng(seed)
    ranks = rng.random((num_blocks + 1, count, num_blocks)).argsort(-1)
    return ranks < np.arange(num_blocks + 1)[:, None, None]


def gradient_norms(
    model: ResNet,
    images: np.ndarray,
    labels: np.ndarray,
    paths: np.ndarray,
    run: Callable = over_items,
) -> np.ndarray:
    """Norm of the gradient that comes back through single paths (Veit 2016, §5, Fig. 6b).

    The forward pass runs the whole network; backward, a block passes the gradient through its branch
    or by its skip alone. The gradient is of an example's cross-entropy with respect to its image, its
    norm Euclidean. The network is in eval mode, so that no example's path leads through another.

    Args:
        model: residual, in eval mode.
        images: float32[examples, height, width, channels], normalised.
        labels: int32[examples].
        paths: bool[paths, blocks].
        run: computes the items, which are paths.

    Returns:
        float32[paths], mean over the examples.
    """
    chain, weights = split_chain(model)
    shared = weights, *in_batches(images, labels, BATCH_SIZE)
    items = {"path": paths.astype(np.float32)}
    return run(partial(_mean_norm, chain), shared, items, together=TOGETHER)["norm"]


def _mean_norm(chain: Chain, shared: Any, item: dict[str, jax.Array]) -> dict[str, jax.Array]:
    weights, images, labels = shared

    def total(batch: tuple[jax.Array, jax.Array]) -> jax.Array:
        gradient = path_gradient(chain, weights, *batch, item["path"])
        return jnp.where(batch[1] >= 0, jax.vmap(norm)(gradient), 0).sum()

    count = (labels >= 0).sum()
    return {"norm": lax.map(total, (images, labels)).sum() / count}


def path_gradient(
    chain: Chain, weights: Weights, images: jax.Array, labels: jax.Array, path: jax.Array
) -> jax.Array:
    """The part of the gradient that comes back through one path.

    Over all paths these sum to the gradient of the network.

    Args:
        chain, weights: of `split_chain`.
        images: float[batch, height, width, channels].
        labels: int32[batch], negative for padding.
        path: float[blocks], 1 through the branch, 0 by the skip.

    Returns:
        Gradient of each example's cross-entropy by its image, in the shape of the images.
    """

    def loss(images: jax.Array) -> jax.Array:
        logits = chain.logits(weights, images, _along_path, path)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(labels, 0))
        return losses.sum()

    return jax.grad(loss)(images)


def _along_path(block: Any, x: jax.Array, through_branch: jax.Array) -> tuple[jax.Array, None]:
    # The halves that nobody uses are removed by the compiler.
    _, branch = block.split(_scale_gradient(x, through_branch))
    skip, _ = block.split(_scale_gradient(x, 1 - through_branch))
    return block.join(skip, branch), None


@jax.custom_vjp
def _scale_gradient(x: jax.Array, factor: jax.Array) -> jax.Array:
    """x; only its gradient is multiplied, so that all paths have one forward pass under vmap."""
    del factor
    return x


def _scale_gradient_forward(x: jax.Array, factor: jax.Array) -> tuple[jax.Array, jax.Array]:
    return x, factor


def _scale_gradient_backward(factor: jax.Array, gradient: jax.Array) -> tuple[jax.Array, None]:
    return (factor * gradient).astype(gradient.dtype), None


_scale_gradient.defvjp(_scale_gradient_forward, _scale_gradient_backward)


def gradient_share(norms: np.ndarray) -> np.ndarray:
    """Share of the gradient that comes through all paths of each length (Veit 2016, §5, Fig. 6c).

    Number of paths × mean norm of one; norms are added as if the gradients of all paths pointed
    the same way.

    Args:
        norms: float[L + 1, paths], of sampled paths of each length.

    Returns:
        float64[L + 1]; sums to 1.
    """
    total = path_share(len(norms) - 1) * norms.mean(1, dtype=np.float64)
    return total / total.sum()


def middle_range(share: np.ndarray, middle: float = MIDDLE) -> tuple[int, int]:
    """Shortest and longest length of the middle part of a distribution.

    Args:
        share: float[L + 1], by length; sums to 1.
        middle: what lies within; half of the rest at most is shorter, and half longer.
    """
    below = np.cumsum(share)
    rest = (1 - middle) / 2
    return int(np.argmax(below > rest)), int(np.argmax(below >= 1 - rest))


def analyze(request: Request) -> Answer:
    """Path lengths and gradients of all networks.

    Raises:
        UserError: a plain network, one without any gradient, networks of different data, or an
            option below 1.
    """
    options = request.options
    request.at_least(1, "num_paths")
    for subject in request.subjects:
        if split_chain(subject.model)[0].plain:
            problem = "has one path only: it is a plain net (model.shortcut = 'none')"
            raise UserError("--workdir", subject.name, problem, "give residual networks")
        head: Any = subject.model.head
        if not head.kernel.get_value().any():
            problem = "passes no gradient back: its head is 0, as Fixup starts it"
            raise UserError("--step", subject.step, problem, "give a later one")
    request.one_data_set()
    examples = request.examples(request.subjects[0])
    arrays: dict[str, Named] = {}
    results = {}
    for subject in request.subjects:
        blocks = split_chain(subject.model)[0].num_blocks
        paths = sample_paths(blocks, options.num_paths, options.seed)
        run = partial(request.over_items, subject, "paths")
        images, labels = examples.images, examples.labels
        norms = gradient_norms(subject.model, images, labels, paths.reshape(-1, blocks), run)
        norms = norms.reshape(paths.shape[:2])
        own = {
            "path_share": Named(path_share(blocks), ("length",), "share of all paths"),
            "gradient_norm": Named(norms, ("length", "path"), "loss per unit of normalised image"),
            "gradient_share": Named(gradient_share(norms), ("length",), "share of the total"),
            "paths": Named(paths, ("length", "path", "block")),
        }
        arrays |= {f"{subject.name}/{name}": array for name, array in own.items()}
        results[subject.name] = _summary(own["gradient_share"].values)
    names = [subject.name for subject in request.subjects]
    figures = [lengths_figure(arrays, names, len(examples.labels))]
    return Answer(arrays, results, figures, examples.facts)


def _summary(share: np.ndarray) -> dict[str, float]:
    low, high = middle_range(share)
    blocks = len(share) - 1
    return {
        "blocks": blocks,
        "mean_length_of_paths": blocks / 2,
        "mean_length_by_gradient": float(share @ np.arange(len(share))),
        f"shortest_of_middle_{MIDDLE:.0%}": low,
        f"longest_of_middle_{MIDDLE:.0%}": high,
        "share_of_paths_of_these_lengths": float(path_share(blocks)[low : high + 1].sum()),
    }


def lengths_figure(arrays: Mapping[str, Any], names: Sequence[str], examples: int) -> Figure:
    """Number of paths, gradient through one, and their product, by length (Veit 2016, Fig. 6).

    Args:
        arrays: of the answer.
        names: of the networks.
        examples: n of every norm.
    """
    canvas, panels = canvas_of(1, 3)
    number, norm, share = panels[0]
    count, shown = 0, []
    for name, look in zip(names, looks_of(len(names), ordered=False), strict=True):
        norms = arrays[f"{name}/gradient_norm"].values
        lengths, count = np.arange(len(norms)), norms.shape[1]
        style = {"color": look.colour, "ls": look.dash, "marker": look.marker, "ms": 3.5}
        number.plot(lengths, 100 * arrays[f"{name}/path_share"].values, label=name, **style)
        norm.plot(lengths, norms.mean(1), **style)
        band = {"color": look.colour, "alpha": 0.15, "lw": 0}
        norm.fill_between(lengths, norms.min(1), norms.max(1), **band)
        shown.append(norms.ravel())
        share.plot(lengths, 100 * arrays[f"{name}/gradient_share"].values, **style)
    size_axis(norm, np.concatenate(shown))
    for panel in (number, share):
        panel.set_ylim(bottom=0)
    titles = ("paths in %", "gradient through one path", "gradient in %")
    for panel, title in zip(panels[0], titles, strict=True):
        panel.set_title(title)
        panel.set_xlabel("length of path (blocks)")
        count_axis(panel)
    shared_legend(canvas, panels.ravel().tolist())
    caption = (
        f"Left: share of all paths by length. Middle: norm of the gradient at the image through one path, "
        f"mean and range of {count} random paths, each the mean of {examples} examples. Right: their "
        f"product, as a share of its sum."
    )
    return Figure("lengths", caption, canvas)
