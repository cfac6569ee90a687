"""Plots of `curvature`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from resnet_jax.plotting.scales import size_axis
from resnet_jax.plotting.style import Figure, canvas_of, looks_of, shared_legend


def curvature_figure(arrays: Mapping[str, Any], names: Sequence[str], top: int) -> Figure:
    """Top eigenvalues, trace and noise scale of each network."""
    canvas, panels = canvas_of(1, 3)
    eigen, trace, noise = panels[0]
    values, traces, scales = [], [], []
    for place, (name, look) in enumerate(
        zip(names, looks_of(len(names), ordered=False), strict=True)
    ):
        own = {key: arrays[f"{name}/{key}"].values for key in ("eigenvalue", "residual")}
        style: dict[str, Any] = {"color": look.colour, "marker": look.marker, "ms": 5, "capsize": 3}
        ranks = np.arange(1, min(top, len(own["eigenvalue"])) + 1)
        eigen.errorbar(
            ranks, own["eigenvalue"][:top], own["residual"][:top], ls=look.dash, label=name, **style
        )
        values.append(own["eigenvalue"][:top])
        samples = arrays[f"{name}/trace_sample"].values
        error = samples.std(ddof=1) / np.sqrt(len(samples))
        trace.errorbar(place, samples.mean(), error, ls="", **style)
        traces.append(samples.mean())
        scale, scale_error = (
            float(arrays[f"{name}/{key}"].values) for key in ("noise_scale", "noise_scale_error")
        )
        if np.isfinite(scale):
            noise.errorbar(
                place, scale, scale_error if np.isfinite(scale_error) else 0, ls="", **style
            )
            scales.append(scale)
    size_axis(eigen, np.concatenate(values))
    size_axis(trace, np.array(traces))
    size_axis(noise, np.array(scales))
    eigen.set_xticks(ranks)
    eigen.set_xlabel("rank")
    eigen.set_ylabel("eigenvalue")
    for panel, label in ((trace, "trace of the Hessian"), (noise, "noise scale in examples")):
        panel.set_ylabel(label)
        panel.set_xticks([])
        panel.set_xlim(-0.5, len(names) - 0.5)
    shared_legend(canvas, panels.ravel().tolist())
    caption = (
        "Largest eigenvalues of the Hessian of the mean loss, with the residuals that bound their error; "
        "its trace and the gradient noise scale, with standard errors."
    )
    return Figure("hessian", caption, canvas)
