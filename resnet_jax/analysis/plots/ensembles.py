"""Plots of `ensembles`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from resnet_jax.plotting.style import COLOURS, Figure, canvas_of, looks_of, shared_legend

Arrays = Mapping[str, Any]
# Of more rows the numbers would not fit in.
MOST_CELLS = 12
# The accuracy of fewer examples is noise.
FEWEST = 20


def reliability_figure(arrays: Arrays, names: Sequence[str]) -> Figure:
    """Accuracy against confidence, and how many examples have it (Guo 2017, Fig. 1)."""
    canvas, panels = canvas_of(1, 2)
    curve, histogram = panels[0]
    curve.plot([0, 1], [0, 1], color="0.6", lw=1)
    for name, look in zip(names, looks_of(len(names), ordered=False), strict=True):
        count = arrays[f"{name}/bin_count"].values
        filled = count >= FEWEST
        confidence = arrays[f"{name}/bin_confidence"].values[filled]
        accuracy = arrays[f"{name}/bin_accuracy"].values[filled]
        style = {"color": look.colour, "ls": look.dash}
        curve.plot(confidence, accuracy, marker=look.marker, ms=3, label=name, **style)
        edges = np.linspace(0, 1, len(count) + 1)
        histogram.stairs(100 * count / count.sum(), edges, lw=1.4, **style)
    for panel in panels[0]:
        panel.set_xlabel("confidence")
        panel.set_xlim(0, 1)
    curve.set_ylim(0, 1)
    curve.set_ylabel("accuracy")
    histogram.set_ylabel("examples in %")
    shared_legend(canvas, [curve])
    caption = (
        "Accuracy of examples by their confidence (grey: calibrated) where a bin has "
        f"{FEWEST} or more, and the share of examples in each bin."
    )
    return Figure("reliability", caption, canvas)


def growth_figure(arrays: Arrays) -> Figure:
    """Error and calibration against the number of networks that are averaged."""
    shown = {
        "accuracy": ("error in %", lambda values: 100 * (1 - values)),
        "loss": ("loss in nats", lambda values: values),
        "calibration_error": ("calibration error in %", lambda values: 100 * values),
    }
    canvas, panels = canvas_of(1, len(shown))
    for panel, (score, (label, convert)) in zip(panels[0], shown.items(), strict=True):
        mean, low, high = (
            convert(arrays[f"growth/{score}/{what}"].values)
            for what in ("mean", "lowest", "highest")
        )
        sizes = np.arange(1, len(mean) + 1)
        panel.fill_between(sizes, low, high, color=COLOURS[0], alpha=0.2, lw=0)
        panel.plot(sizes, mean, marker="o", ms=4, color=COLOURS[0])
        panel.set_xlabel("networks averaged")
        panel.set_ylabel(label)
        panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    caption = "Mean (line) and range (band) over all subsets of so many networks."
    return Figure("growth", caption, canvas)


def disagreement_figure(arrays: Arrays, names: Sequence[str]) -> Figure:
    """Share of examples that two networks put into different classes."""
    canvas, panels = canvas_of(1, 1)
    panel = panels[0, 0]
    percent = 100 * arrays["disagreement"].values
    image = panel.imshow(percent, cmap="viridis", vmin=0)
    if len(names) <= MOST_CELLS:
        for (row, column), value in np.ndenumerate(percent):
            colour = "black" if value > 0.6 * percent.max() else "white"
            panel.text(column, row, f"{value:.1f}", ha="center", va="center", color=colour)
    places = range(len(names))
    panel.set_yticks(places, [f"{name}  {place + 1}" for place, name in enumerate(names)])
    panel.set_xticks(places, [str(place + 1) for place in places])
    panel.grid(False)
    canvas.colorbar(image, label="disagreement in %")
    canvas.set_figwidth(canvas.get_figwidth() + 0.11 * max(map(len, names)))
    caption = "Share of examples that two networks put into different classes."
    return Figure("disagreement", caption, canvas)
