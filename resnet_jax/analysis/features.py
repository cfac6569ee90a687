"""What each depth sees: feature maps with and without the skip path, class activation maps, similarity of
layers, first-layer filters."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from resnet_jax.analysis.chain import last_of_stages, split_chain
from resnet_jax.analysis.class_activation import grad_cam
from resnet_jax.analysis.items import over_items
from resnet_jax.analysis.plots.features import (
    activation_figure,
    filter_figure,
    map_figure,
    similarity_figure,
)
from resnet_jax.analysis.request import Answer, Named, Request, finite_logits
from resnet_jax.analysis.similarity import LEAST_EXAMPLES, layer_similarity
from resnet_jax.analysis.subject import Examples, Subject
from resnet_jax.errors import UserError
from resnet_jax.models import ResNet, checked_jit

Arrays = dict[str, Named]
# Rows of a picture.
MOST_IMAGES = 50


def feature_maps(model: ResNet, images: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What the skip path and the branch bring to the sum in the last block of every stage.

    The skip path is the sum with a branch of zeros, and the branch is the rest: for gates, what passes
    them. Zeros are the skip path of a plain block.

    Args:
        model: in eval mode.
        images: float32[images, height, width, channels].

    Returns:
        `stage1`, `stage2`, … → (skip, branch), float32[images, h, w, channels] each; their sum is the input
        of the norm or ReLU that follows.
    """
    chain, weights = split_chain(model)

    def step(block: Any, x: jax.Array, _: Any) -> tuple[jax.Array, Any]:
        skip, branch = block.split(x)
        alone = block.shortcut(skip, jnp.zeros_like(branch), None)
        joined = block.shortcut(skip, branch, None)
        return block.join(skip, branch), (alone, joined - alone)

    @checked_jit
    def run(weights: Any, images: jax.Array) -> dict[str, Any]:
        _, kept = chain.blocks(weights, chain.stem(weights, images), step)
        ends = last_of_stages(chain, kept)
        return jax.tree.map(lambda a: a.astype(jnp.float32), ends)

    return jax.tree.map(np.asarray, run(weights, images))


def first_filters(model: ResNet) -> np.ndarray:
    """Kernels of the first convolution, float32[height, width, in_channels, filters]."""
    convolutions = [m for _, m in nnx.iter_modules(model.stem) if isinstance(m, nnx.Conv)]
    first = getattr(model.stem, "conv1", None) or convolutions[0]
    return np.asarray(first.kernel.get_value(), np.float32)


def analyze(request: Request) -> Answer:
    """Feature maps, class activation maps and filters of each network; similarity within and between."""
    request.one_data_set()
    subjects = request.subjects
    examples = request.examples(subjects[0])
    rows = _chosen(request.options.images, examples)
    pixels = _denormalise(examples.images[rows], subjects[0].data)
    names, classes = [s.name for s in subjects], subjects[0].data["class_names"]
    arrays: Arrays = {
        "images": Named(pixels, ("image", "height", "width", "channel"), "from 0 to 1"),
        "labels": Named(examples.labels[rows], ("image",)),
    }
    for subject in subjects:
        arrays |= _of_images(subject, examples.images[rows])
    similar = layer_similarity([s.model for s in subjects], examples.images, run=_with_bar)
    arrays |= _similarities(subjects, similar)
    figures = [
        similarity_figure(arrays, names),
        filter_figure(arrays, names),
        *(map_figure(arrays, name) for name in names),
        *(activation_figure(arrays, name, classes) for name in names),
    ]
    return Answer(arrays, _results(arrays, names), figures, examples.facts)


def _chosen(images: list[int] | None, examples: Examples) -> np.ndarray:
    count = len(examples.labels)
    if count < LEAST_EXAMPLES:
        raise UserError("--examples", count, f"similarity needs at least {LEAST_EXAMPLES}")
    rows = np.array(range(min(4, count)) if images is None else images)
    wrong = [int(row) for row in rows if not 0 <= row < count]
    if wrong:
        raise UserError("--images", wrong[0], f"allowed: from 0 to {count - 1}, of the examples")
    if len(rows) > MOST_IMAGES:
        raise UserError("--images", f"{len(rows)} numbers", f"allowed: at most {MOST_IMAGES}")
    return rows


def _denormalise(images: np.ndarray, data: dict[str, Any]) -> np.ndarray:
    return np.clip(images * np.array(data["std"]) + np.array(data["mean"]), 0, 1).astype(np.float32)


def _with_bar(*arguments: Any) -> dict[str, np.ndarray]:
    return over_items(*arguments, label="similarity")


def _of_images(subject: Subject, images: np.ndarray) -> Arrays:
    """Maps of the chosen images, and the filters."""
    name, model = subject.name, subject.model
    maps, logits = grad_cam(model, images)
    finite_logits(name, logits)
    found = {
        f"{name}/filters": Named(first_filters(model), ("height", "width", "channel", "filter")),
        f"{name}/predicted": Named(logits.argmax(1), ("image",)),
    }
    axes = ("image", "height", "width")
    for number, values in enumerate(maps, 1):
        found[f"{name}/activation/stage{number}"] = Named(values, axes, "logit")
    for stage, parts in feature_maps(model, images).items():
        for part, values in zip(("skip", "branch"), parts, strict=True):
            found[f"{name}/{part}/{stage}"] = Named(values, (*axes, "channel"))
    return found


def _similarities(subjects: list[Subject], similar: np.ndarray) -> Arrays:
    """Of each network within itself, and with the first."""
    layers = [np.array(["stem", *split_chain(s.model)[0].names]) for s in subjects]
    ends = np.cumsum([len(names) for names in layers])
    parts = [slice(end - len(names), end) for names, end in zip(layers, ends, strict=True)]
    found: Arrays = {}
    for subject, names, part in zip(subjects, layers, parts, strict=True):
        found[f"{subject.name}/layers"] = Named(names, ("layer",))
        found[f"{subject.name}/similarity"] = Named(similar[part, part], ("layer", "layer"), "CKA")
        if part != parts[0]:
            axes = ("layer", f"layer of {subjects[0].name}")
            with_first = Named(similar[part, parts[0]], axes, "CKA")
            found[f"{subject.name}/similarity_with_first"] = with_first
    return found


def _results(arrays: Arrays, names: list[str]) -> dict[str, dict[str, Any]]:
    results = {}
    for name in names:
        within = arrays[f"{name}/similarity"].values
        results[name] = {
            "cka_of_neighbours": float(within.diagonal(1).mean()),
            "cka_of_first_and_last": float(within[0, -1]),
        }
        if name != names[0]:
            between = arrays[f"{name}/similarity_with_first"].values
            results[name]["cka_of_last_with_first_network"] = float(between[-1, -1])
    return results
