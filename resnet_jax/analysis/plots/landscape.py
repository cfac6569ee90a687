"""Plots of `landscape`."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes as Panel
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.ticker import MaxNLocator, NullLocator
from mpl_toolkits.mplot3d.axes3d import Axes3D

from resnet_jax.plotting.style import (
    Figure,
    canvas_of,
    in_lines,
    looks_of,
    panels_for,
    shared_legend,
)

COLOURS = "viridis"
# Nats; what is higher has the highest colour, as in the code of Li et al., or corners would take all.
CEILING = 10.0
DIGITS: tuple[tuple[float, ...], ...] = ((1,), (1, 2, 5), (1, 1.5, 2, 3, 5, 7))
Arrays = Mapping[str, Any]


class Scale(NamedTuple):
    """What all colours of a figure mean: `low` and `high` in nats, and Matplotlib's `norm`."""

    low: float
    high: float
    norm: LogNorm


def _losses(arrays: Arrays, names: Sequence[str]) -> tuple[list[np.ndarray], Scale]:
    """The surfaces to draw, and the scale that they share."""
    losses = [np.asarray(arrays[f"{name}/loss"].values, float) for name in names]
    finite = np.concatenate([loss[np.isfinite(loss)] for loss in losses])
    low, high = finite.min(), min(finite.max(), CEILING)
    high = max(high, 1.05 * low)
    # Zero has no logarithm; what overflowed is as high as the highest.
    low = max(low, 1e-6 * high)
    drawn = [np.clip(np.nan_to_num(loss, nan=high, posinf=high), low, high) for loss in losses]
    return drawn, Scale(low, high, LogNorm(low, high))


def _round_levels(scale: Scale) -> list[float]:
    """Round numbers within a scale, about five to ten."""
    low, high, _ = scale
    powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    for digits in DIGITS:
        levels = [d * p for p in powers for d in digits if low <= d * p <= high]
        if len(levels) >= 5:
            return levels
    return [level for level in MaxNLocator(6).tick_values(low, high) if low <= level <= high]


def _contours(panel: Panel, x: np.ndarray, y: np.ndarray, loss: np.ndarray, scale: Scale) -> None:
    fine = np.geomspace(scale.low, scale.high, 60)
    panel.contourf(x, y, loss, fine, norm=scale.norm, cmap=COLOURS)
    levels = [level for level in _round_levels(scale) if loss.min() < level < loss.max()]
    if levels:
        lines = panel.contour(x, y, loss, levels, colors="white", linewidths=0.7)
        panel.clabel(lines, fmt="%g", fontsize=7)
    panel.grid(False)


def _colour_bar(canvas: Any, panels: np.ndarray, scale: Scale) -> None:
    levels = _round_levels(scale)
    mappable = ScalarMappable(scale.norm, COLOURS)
    extend = "max" if scale.high == CEILING else "neither"
    bar = canvas.colorbar(mappable, ax=panels, label="loss in nats", extend=extend)
    bar.set_ticks(levels, labels=[f"{level:g}" for level in levels])
    bar.ax.yaxis.set_minor_locator(NullLocator())


def contour_figure(arrays: Arrays, names: Sequence[str]) -> Figure:
    """Surfaces from above, on one scale (Li 2018, Fig. 5)."""
    canvas, panels, used = panels_for(len(names), sharex=True, sharey=True)
    losses, scale = _losses(arrays, names)
    xs = arrays["first_direction"].values
    for panel, name, loss in zip(used, names, losses, strict=True):
        _contours(panel, xs, xs, loss, scale)
        panel.plot(0, 0, "+", color="white", ms=8, mew=1.5)
        panel.set_title(in_lines(name))
        panel.set_xlabel("first direction")
        panel.locator_params(nbins=4)
    for row in panels:
        row[0].set_ylabel("second direction")
    _colour_bar(canvas, panels, scale)
    caption = "Loss around each network (+) in two random, filter-normalised directions."
    return Figure("contours", caption, canvas)


def surface_figure(arrays: Arrays, names: Sequence[str]) -> Figure:
    """Surfaces in perspective, on one logarithmic scale (Li 2018, Fig. 1)."""
    canvas, panels, used = panels_for(len(names), subplot_kw={"projection": "3d"})
    losses, scale = _losses(arrays, names)
    xs = arrays["first_direction"].values
    ticks = _round_levels(scale)
    for panel, name, loss in zip(used, names, losses, strict=True):
        assert isinstance(panel, Axes3D)
        # A face has the colour of its mean height.
        norm = Normalize(np.log10(scale.low), np.log10(scale.high))
        heights, options = np.log10(loss), {"rcount": 200, "ccount": 200}
        panel.plot_surface(*np.meshgrid(xs, xs), heights, cmap=COLOURS, norm=norm, **options)
        panel.set_zlim(norm.vmin, norm.vmax)
        panel.set_zticks(np.log10(ticks), labels=[f"{tick:g}" for tick in ticks])
        panel.tick_params(labelsize=7, pad=-2)
        panel.locator_params("x", nbins=4)
        panel.locator_params("y", nbins=4)
        panel.set_xlabel("first direction", fontsize=8, labelpad=-6)
        panel.set_ylabel("second", fontsize=8, labelpad=-6)
        panel.view_init(elev=35, azim=-60)
        panel.set_title(in_lines(name))
    _colour_bar(canvas, panels, scale)
    caption = "Loss around each network in two random, filter-normalised directions."
    return Figure("surfaces", caption, canvas)


def curve_figure(arrays: Arrays, names: Sequence[str]) -> Figure:
    """Loss and error along the first direction (Li 2018, Fig. 3)."""
    xs = arrays["first_direction"].values
    curves = {}
    for name in names:
        for what in ("loss", "accuracy"):
            values = arrays[f"{name}/{what}"].values
            curves[f"{name}/{what}"] = values if values.ndim == 1 else values[len(values) // 2]
    caption = "Loss and error along a random, filter-normalised direction; 0 is the network."
    return _curves("curves", caption, xs, "first direction", curves, names)


def line_figure(arrays: Arrays, names: Sequence[str]) -> Figure:
    """Loss and error between two networks (Goodfellow 2015, Fig. 1)."""
    curves = {f"{name}/{what}": arrays[f"{name}/{what}"].values for name in names
              for what in ("loss", "accuracy")}  # fmt: skip
    caption = "Loss and error on the straight line from one network (0) to another (1)."
    return _curves("line", caption, arrays["share"].values, "share of the way", curves, names)


def _curves(
    name: str, caption: str, xs: np.ndarray, x_label: str, curves: Arrays, names: Sequence[str]
) -> Figure:
    canvas, panels = canvas_of(1, 2)
    loss, error = panels[0]
    for network, look in zip(names, looks_of(len(names), ordered=False), strict=True):
        style = {"color": look.colour, "ls": look.dash}
        loss.plot(xs, curves[f"{network}/loss"], label=network, **style)
        error.plot(xs, 100 * (1 - curves[f"{network}/accuracy"]), **style)
    loss.set_yscale("log")
    low, high = loss.get_ylim()
    levels = _round_levels(Scale(low, high, LogNorm()))
    loss.set_yticks(levels, labels=[f"{level:g}" for level in levels])
    loss.yaxis.set_minor_locator(NullLocator())
    loss.set_ylabel("loss in nats")
    error.set_ylabel("error in %")
    error.set_ylim(0, 100)
    for panel in panels[0]:
        panel.set_xlabel(x_label)
    shared_legend(canvas, panels.ravel().tolist())
    return Figure(name, caption, canvas)


def course_figure(arrays: Arrays, names: Sequence[str]) -> Figure:
    """The course of training in its plane, and the loss there (Li 2018, Fig. 9)."""
    canvas, panels, used = panels_for(len(names))
    losses, scale = _losses(arrays, names)
    for panel, name, loss in zip(used, names, losses, strict=True):
        xs, ys = (arrays[f"{name}/{which}_component"].values for which in ("first", "second"))
        _contours(panel, xs, ys, loss, scale)
        x, y = arrays[f"{name}/positions"].values.T
        panel.plot(x, y, "-o", color="#D62728", ms=3, lw=1.2)
        panel.plot(x[0], y[0], "s", color="#D62728", ms=6, label="start")
        panel.plot(x[-1], y[-1], "*", color="#D62728", ms=10, label="end")
        first, second = 100 * arrays[f"{name}/explained"].values
        panel.set_xlabel(f"first component ({first:.1f} % of variance)")
        panel.set_ylabel(f"second ({second:.1f} %)")
        panel.set_title(in_lines(name))
    _colour_bar(canvas, panels, scale)
    shared_legend(canvas, used)
    caption = "The networks of a run, and the loss, in the plane of their principal components."
    return Figure("trajectory", caption, canvas)
