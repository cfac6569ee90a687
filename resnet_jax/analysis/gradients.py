"""Activations and gradients of every block and layer, against depth.

He et al. 2015, "Deep Residual Learning", §4.2, "Analysis of Layer Responses" (Fig. 7); gradient
correlation: `gradient_lines`.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from resnet_jax import models
from resnet_jax.analysis.chain import Chain, batch_statistics_view, over_blocks, split_chain
from resnet_jax.analysis.gradient_lines import gradient_correlation
from resnet_jax.analysis.items import over_items
from resnet_jax.analysis.plots.gradients import correlation_figure, depth_figure, response_figure
from resnet_jax.analysis.request import Answer, Named, Request
from resnet_jax.analysis.subject import Examples, Subject
from resnet_jax.analysis.taps import moments, norm, tap, tapped_block
from resnet_jax.errors import UserError


def against_depth(
    model: models.ResNet,
    images: np.ndarray,
    labels: np.ndarray,
    run: Callable = over_items,
) -> dict[str, np.ndarray]:
    """Sizes of activations and gradients; one forward and one backward pass a batch.

    The loss of an example is its cross-entropy. Gradients with respect to activations are of the summed
    loss, so that they do not shrink with the batch; gradients with respect to weights are of the mean
    loss, as in training.

    Args:
        model: in eval mode, or a `batch_statistics_view`.
        images: float32[batches, batch, height, width, channels], normalised.
        labels: int32[batches, batch].
        run: computes the items.

    Returns:
        float32 means over the batches, of the output of the stem and of each block [blocks + 1]:
        `activation_norm` and `gradient_norm`, L2 norms of one example's, mean over the examples;
        `activation_std` and `gradient_std`, standard deviations over all examples and entries.
        Of the response of each layer in the branches [layers], see `taps.tapped_block`: the same four,
        named `response_…` and `response_gradient_…`. Of its kernel [layers]: `weight_norm`,
        `weight_gradient_norm`, and their ratio `relative_weight_gradient`, NaN where the kernel is 0.
        `loss`: scalar.
    """
    chain, weights = split_chain(model)
    num_layers = model.stages()[0].blocks[0].branch.num_layers
    items = {"images": images, "labels": labels}
    each = run(partial(_measure, chain, num_layers), weights, items)
    found = {name: array.mean(0) for name, array in each.items()}
    size, gradient = found["weight_norm"], found["weight_gradient_norm"]
    nothing = np.full_like(size, np.nan)
    found["relative_weight_gradient"] = np.divide(gradient, size, out=nothing, where=size > 0)
    return found


def _measure(
    chain: Chain, num_layers: int, weights: Any, item: dict[str, jax.Array]
) -> dict[str, jax.Array]:
    """All that `against_depth` returns, of one batch."""
    images, labels = item["images"], item["labels"]
    size, slot = len(images), jnp.zeros((len(images), 3))
    slots = {
        "stem": slot,
        "layers": jnp.zeros((chain.num_blocks, num_layers, *slot.shape)),
        "output": jnp.zeros((chain.num_blocks, *slot.shape)),
    }

    def loss(groups: Any, slots: dict[str, jax.Array]) -> tuple[jax.Array, Any]:
        own = weights | {"groups": groups}
        stem = chain.stem(own, images)
        x = tap(moments, stem, slots["stem"])
        extras = {"layers": slots["layers"], "output": slots["output"]}
        x, kept = chain.blocks(own, x, partial(tapped_block, moments), extras)
        losses = optax.softmax_cross_entropy_with_integer_labels(chain.head(own, x), labels)
        return losses.sum(), over_blocks(kept) | {"stem": moments(stem)}

    (total, activations), (kernels, gradients) = jax.value_and_grad(loss, (0, 1), has_aux=True)(
        weights["groups"], slots
    )
    return {
        "loss": total / size,
        **_described("activation", _outputs(activations)),
        **_described("gradient", _outputs(gradients)),
        **_described("response", _layers(activations)),
        **_described("response_gradient", _layers(gradients)),
        "weight_norm": _kernel_norms(weights["groups"], num_layers),
        "weight_gradient_norm": _kernel_norms(kernels, num_layers) / size,
    }


def _outputs(measured: dict[str, jax.Array]) -> jax.Array:
    return jnp.concatenate([measured["stem"][None], measured["output"]])


def _layers(measured: dict[str, jax.Array]) -> jax.Array:
    return measured["layers"].reshape(-1, *measured["layers"].shape[2:])


def _described(name: str, measured: jax.Array) -> dict[str, jax.Array]:
    """Of `taps.moments` [places, batch, 3]: the mean norm and the deviation of all entries."""
    means, within, norms = jnp.moveaxis(measured, 2, 0)
    between = means - means.mean(1, keepdims=True)
    # The variance of all entries is the mean of those within examples and that between them.
    deviation = jax.vmap(norm)(jnp.concatenate([within, between], 1)) / math.sqrt(means.shape[1])
    return {f"{name}_norm": norms.mean(1), f"{name}_std": deviation}


def _kernel_norms(groups: list[Any], num_layers: int) -> jax.Array:
    """Norms of the kernels of all branches, in order."""
    names = [f"conv{number}" for number in range(1, num_layers + 1)]
    norms = [
        [jax.vmap(norm)(group["branch"][name]["kernel"]) for name in names] for group in groups
    ]
    return jnp.concatenate([jnp.stack(group, 1) for group in norms]).ravel()


def growth_per_block(norms: np.ndarray) -> float | None:
    """By what factor a norm grows from one block to the one before it: a log-linear fit.

    Args:
        norms: float[places], in the order of the network.

    Returns:
        None where one is 0, as where the head starts at 0 (Fixup), or not finite.
    """
    if not (np.isfinite(norms).all() and norms.min() > 0):
        return None
    slope = np.polyfit(np.arange(len(norms)), np.log(norms.astype(np.float64)), 1)[0]
    return float(np.exp(-slope))


def whole_batches(
    examples: Examples, batch_size: int, seed: int
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Examples in random order, without those that fill no batch: their batch norms would differ.

    Returns:
        images: float32[batches, batch, height, width, channels]; labels: int32[batches, batch]; facts.
    """
    size = min(batch_size, len(examples.labels))
    count = len(examples.labels) // size * size
    rows = np.random.default_rng(seed).permutation(len(examples.labels))[:count].reshape(-1, size)
    facts = examples.facts | {"examples": count, "batch_size": size}
    return examples.images[rows], examples.labels[rows], facts


def analyze(request: Request) -> Answer:
    """Everything against depth, of all networks.

    Raises:
        UserError: a negative number of lines, or a single example for them.
    """
    request.one_data_set()
    options = request.options
    request.at_least(0, "lines")
    batch_size = request.subjects[0].config.train.batch_size
    examples = request.examples(request.subjects[0])
    if options.lines and len(examples.labels) < 2:
        raise UserError("--examples", 1, "a line needs two", "give more, or --lines=0")
    images, labels, facts = whole_batches(examples, batch_size, options.seed)
    facts["statistics"] = "running" if options.running_statistics else "of the batch"
    arrays: dict[str, Named] = {}
    results = {}
    for subject in request.subjects:
        model = subject.model
        if not options.running_statistics:
            model = batch_statistics_view(model)
        run = partial(request.over_items, subject, "gradients")
        found = against_depth(model, images, labels, run)
        if options.lines:
            run = partial(request.over_items, subject, "gradient correlation")
            found |= gradient_correlation(model, examples, options.lines, options.seed, run)
        results[subject.name] = _results(found)
        arrays |= _named(subject, model, found)
    names = [subject.name for subject in request.subjects]
    figures = [depth_figure(arrays, names), response_figure(arrays, names)]
    if options.lines:
        figures.append(correlation_figure(arrays, names))
    return Answer(arrays, results, figures, facts)


def _results(found: Mapping[str, np.ndarray]) -> dict[str, float | None]:
    norms = found["gradient_norm"]
    growth = growth_per_block(norms)
    results = {
        "loss": float(found["loss"]),
        "gradient_first_over_last": float(norms[0] / norms[-1]) if growth else None,
        "gradient_growth_per_block": growth,
        "response_std": float(found["response_std"].mean()),
    }
    if "gradient_correlation" in found:
        results["input_gradient_correlation"] = float(found["gradient_correlation"][0, 1])
    return results


def _named(subject: Subject, model: models.ResNet, found: Mapping[str, Any]) -> dict[str, Named]:
    chain, _ = split_chain(model)
    num_layers = len(found["weight_norm"]) // chain.num_blocks
    layers = [f"{block}/conv{i + 1}" for block in chain.names for i in range(num_layers)]
    axes = {chain.num_blocks + 1: ("stem and blocks",), len(layers): ("layer",)}
    two = ("image, stem and blocks", "distance")
    named = {
        "blocks": Named(np.array(["stem", *chain.names]), ("stem and blocks",)),
        "layers": Named(np.array(layers), ("layer",)),
    }
    for name, array in found.items():
        if name == "gradient_correlation":
            named[name] = Named(array, two, "cosine")
        elif name == "distance":
            named[name] = Named(array, ("distance",), "of the distance of the two examples")
        else:
            named[name] = Named(array, axes[len(array)] if array.ndim else ())
    return {f"{subject.name}/{name}": array for name, array in named.items()}
