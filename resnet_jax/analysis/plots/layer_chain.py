"""Plots of `layer_chain`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from resnet_jax.plotting.scales import count_axis, size_axis
from resnet_jax.plotting.style import Figure, canvas_of, looks_of, shared_legend

TITLES = ("plain", "with shortcuts", "branches / √depth")


def chain_figure(arrays: Mapping[str, Any], shape: Mapping[str, Any]) -> Figure:
    """Norms of activations and gradients along the chain, one line a weight scale."""
    canvas, panels = canvas_of(2, len(TITLES), sharex=True, sharey=True)
    scales = arrays["weight_scale"].values
    for row, name in enumerate(("activation", "gradient")):
        for column, title in enumerate(TITLES):
            panel = panels[row, column]
            norms = arrays[f"{name}_norm"].values[column]
            expected = arrays[f"expected_{name}_norm"].values[column]
            layers = np.arange(norms.shape[1])
            for index, look in enumerate(looks_of(len(scales), ordered=True)):
                marks = {"marker": look.marker, "ms": 3.5, "markevery": max(1, len(layers) // 10)}
                label = f"weight scale {scales[index]:g}"
                panel.plot(layers, norms[index], color=look.colour, ls="", label=label, **marks)
                panel.plot(layers, expected[index], color=look.colour, lw=1)
            if row == 0:
                panel.set_title(title)
            else:
                panel.set_xlabel("layer")
            count_axis(panel)
        panels[row, 0].set_ylabel(f"norm of {name}")
    size_axis(panels[0, 0], arrays["activation_norm"].values)
    shared_legend(canvas, panels.ravel().tolist())
    caption = (
        f"Norms along chains of {shape['depth']} layers of {shape['width']} {shape['activation']} units, "
        f"relative to the input (activations) and to the last layer (gradients): root mean square of "
        f"{shape['draws']} draws; lines: expected for infinite width. Right: with shortcuts too."
    )
    return Figure("norms", caption, canvas)
