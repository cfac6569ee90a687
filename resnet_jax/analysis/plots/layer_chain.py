"""Plots of `layer_chain`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from resnet_jax.analysis.plots.gradients import size_axis
from resnet_jax.report.style import Figure, canvas_of, looks_of, shared_legend

TITLES = ("plain", "with shortcuts", "with shortcuts, branches / √depth")


def chain_figure(arrays: Mapping[str, Any], shape: Mapping[str, Any]) -> Figure:
    """Norms of activations and gradients along the chain, one line a weight scale."""
    canvas, panels = canvas_of(len(TITLES), 2, sharex=True)
    scales = arrays["weight_scale"].values
    for row, connection in enumerate(TITLES):
        for column, name in enumerate(("activation", "gradient")):
            panel = panels[row, column]
            norms = arrays[f"{name}_norm"].values[row]
            expected = arrays[f"expected_{name}_norm"].values[row]
            layers = np.arange(norms.shape[1])
            for index, look in enumerate(looks_of(len(scales), ordered=True)):
                marks = {"marker": look.marker, "ms": 3.5, "markevery": max(1, len(layers) // 10)}
                label = f"weight scale {scales[index]:g}"
                panel.plot(layers, norms[index], color=look.colour, ls="", label=label, **marks)
                panel.plot(layers, expected[index], color=look.colour, lw=1)
            size_axis(panel, norms)
            panel.set_title(f"{connection}:\n{name}")
    for panel in panels[-1]:
        panel.set_xlabel("layer")
    for panel in panels[:, 0]:
        panel.set_ylabel("norm")
    shared_legend(canvas, panels.ravel().tolist())
    caption = (
        f"Norms along chains of {shape['depth']} layers of {shape['width']} {shape['activation']} units, "
        f"relative to the input (activations) and to the last layer (gradients): root mean square of "
        f"{shape['draws']} draws; lines: expected for infinite width."
    )
    return Figure("norms", caption, canvas)
