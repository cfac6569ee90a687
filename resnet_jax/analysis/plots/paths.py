"""Plots of `paths`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from resnet_jax.plotting.scales import count_axis, size_axis
from resnet_jax.plotting.style import Figure, canvas_of, looks_of, shared_legend


def figure(arrays: Mapping[str, Any], names: Sequence[str], examples: int) -> Figure:
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
