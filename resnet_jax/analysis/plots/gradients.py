"""Plots of `gradients`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from resnet_jax.plotting.scales import count_axis, size_axis
from resnet_jax.plotting.style import Figure, canvas_of, looks_of, shared_legend


def depth_figure(arrays: Mapping[str, Any], names: Sequence[str]) -> Figure:
    """Sizes of activations, their gradients and the kernels' gradients against depth."""
    canvas, panels = canvas_of(1, 3)
    shown = (
        ("activation_norm", "output of block", "norm of activation"),
        ("gradient_norm", "output of block", "norm of gradient"),
        ("relative_weight_gradient", "layer in the blocks", "gradient norm / weight norm"),
    )
    for panel, (array, x_label, y_label) in zip(panels[0], shown, strict=True):
        for name, look in zip(names, looks_of(len(names), ordered=False), strict=True):
            y = arrays[f"{name}/{array}"].values
            # Outputs begin with the stem's, at 0.
            x = np.arange(len(y)) + (array == "relative_weight_gradient")
            panel.plot(x, y, color=look.colour, ls=look.dash, label=name, **_marks(look, len(x)))
        sizes = np.concatenate([arrays[f"{name}/{array}"].values for name in names])
        size_axis(panel, sizes)
        panel.set_xlabel(x_label)
        panel.set_ylabel(y_label)
        count_axis(panel)
    shared_legend(canvas, panels.ravel().tolist())
    caption = (
        "Norms of one example's activations and of the gradients of its loss (0: the stem), and of the "
        "gradients of the mean loss with respect to each kernel, against depth."
    )
    return Figure("depth", caption, canvas)


def response_figure(arrays: Mapping[str, Any], names: Sequence[str]) -> Figure:
    """Deviation of each layer's response, in order and sorted (He et al. 2015, Fig. 7)."""
    canvas, panels = canvas_of(1, 2, sharey=True)
    for name, look in zip(names, looks_of(len(names), ordered=False), strict=True):
        std = arrays[f"{name}/response_std"].values
        for panel, values in zip(panels[0], (std, np.sort(std)[::-1]), strict=True):
            places = np.arange(1, len(values) + 1)
            panel.plot(
                places,
                values,
                color=look.colour,
                ls=look.dash,
                label=name,
                **_marks(look, len(places)),
            )
    size_axis(
        panels[0, 0], np.concatenate([arrays[f"{name}/response_std"].values for name in names])
    )
    for panel in panels[0]:
        count_axis(panel)
    panels[0, 0].set_xlabel("layer in the blocks")
    panels[0, 1].set_xlabel("layer, sorted by magnitude")
    panels[0, 0].set_ylabel("std of response")
    shared_legend(canvas, panels.ravel().tolist())
    caption = (
        "Standard deviation of each layer's response: after its norm, before ReLU and addition."
    )
    return Figure("responses", caption, canvas)


def correlation_figure(arrays: Mapping[str, Any], names: Sequence[str]) -> Figure:
    """Correlation of gradients at neighbouring inputs, by depth and by distance."""
    canvas, panels = canvas_of(1, 2, sharey=True)
    by_depth, by_distance = panels[0]
    for name, look in zip(names, looks_of(len(names), ordered=False), strict=True):
        cosine = arrays[f"{name}/gradient_correlation"].values
        distance = arrays[f"{name}/distance"].values
        style: dict[str, Any] = {"color": look.colour, "ls": look.dash, "label": name}
        places = np.arange(len(cosine)) - 1
        by_depth.plot(places, cosine[:, 1], **style, **_marks(look, len(places)))
        by_distance.plot(distance, cosine[0], **style, **_marks(look, len(distance)))
    count_axis(by_depth)
    by_depth.set_xlabel("output of block (−1: the image)")
    by_depth.set_ylabel("cosine of gradients")
    by_distance.set_xlabel("distance of inputs")
    shared_legend(canvas, panels.ravel().tolist())
    distance = arrays[f"{names[0]}/distance"].values[1]
    caption = (
        "Cosine between the gradients of a logit at two inputs on the line between two examples. Left: "
        f"{distance:.2g} of the line apart, with respect to each block's output; right: with respect "
        "to the image, by their distance as a share of the line."
    )
    return Figure("correlation", caption, canvas)


def _marks(look: Any, count: int) -> dict[str, Any]:
    """A marker on some fifteen points of a line."""
    return {"marker": look.marker, "ms": 3, "markevery": max(1, count // 15)}
