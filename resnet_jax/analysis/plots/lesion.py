"""Plots of `lesion`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from resnet_jax.plotting.scales import count_axis
from resnet_jax.plotting.style import Figure, Look, canvas_of, looks_of, shared_legend

SHAPE = {"ls": "", "marker": "o", "ms": 9, "mfc": "none", "mec": "0.25", "mew": 1.0}
CHANCE = {"color": "0.5", "lw": 1.0, "ls": (0, (3, 2)), "zorder": 1}


def figures(arrays: Mapping[str, Any], names: Sequence[str], examples: int) -> list[Figure]:
    """All figures of an answer.

    Args:
        arrays: of the answer.
        names: of the networks.
        examples: n of every error.
    """
    make = [_deletion, _random]
    if any(len(arrays[f"{name}/kendall_tau"].values) for name in names):
        make.append(_shuffle)
    looks = looks_of(len(names), ordered=False)
    return [draw(arrays, dict(zip(names, looks, strict=True)), examples) for draw in make]


def _deletion(arrays: Mapping[str, Any], looks: Mapping[str, Look], examples: int) -> Figure:
    canvas, panel = _panel(arrays, looks, "deleted block", width=6.2)
    for name, look in looks.items():
        error = 100 * arrays[f"{name}/deletion_error"].values
        places = np.arange(1, len(error) + 1)
        style = {"color": look.colour, "marker": look.marker, "ms": 4, "lw": 1.1}
        panel.plot(places, error, ls=look.dash, label=name, **style)
        changes = arrays[f"{name}/changes_shape"].values
        panel.plot(places[changes], error[changes], **SHAPE)
    panel.plot([], [], label="block that changes shape", **SHAPE)
    count_axis(panel)
    _legend(canvas, panel)
    caption = (
        f"Error after deleting one block; ringed: blocks that change shape, which a plain net cannot "
        f"lose. Dotted: the whole networks. n = {examples}."
    )
    return Figure("deletion", caption, canvas)


def _random(arrays: Mapping[str, Any], looks: Mapping[str, Look], examples: int) -> Figure:
    canvas, panel = _panel(arrays, looks, "blocks deleted at random")
    draws = 0
    for name, look in looks.items():
        error = 100 * arrays[f"{name}/random_deletion_error"].values
        draws = error.shape[1]
        whole = np.full((1, draws), 100 * arrays[f"{name}/error"].values)
        error = np.concatenate([whole, error])
        numbers = np.arange(len(error))
        style = {"color": look.colour, "marker": look.marker, "ms": 4, "ls": look.dash}
        panel.plot(numbers, np.median(error, 1), label=name, **style)
        low, high = error.min(1), error.max(1)
        panel.fill_between(numbers, low, high, color=look.colour, alpha=0.15, lw=0)
    count_axis(panel)
    _legend(canvas, panel)
    caption = (
        f"Error after deleting several blocks; line: median, band: from the best to the worst of {draws} "
        f"draws. n = {examples}."
    )
    return Figure("random_deletion", caption, canvas)


def _shuffle(arrays: Mapping[str, Any], looks: Mapping[str, Look], examples: int) -> Figure:
    canvas, panel = _panel(arrays, looks, "Kendall's τ of the order")
    for name, look in looks.items():
        tau = np.append(arrays[f"{name}/kendall_tau"].values, 1)
        whole = arrays[f"{name}/error"].values
        error = 100 * np.append(arrays[f"{name}/shuffle_error"].values, whole)
        style = {"color": look.colour, "marker": look.marker, "ms": 5, "mew": 0, "alpha": 0.65}
        panel.plot(tau, error, ls="", label=name, **style)
    panel.invert_xaxis()
    _legend(canvas, panel)
    caption = (
        f"Error after swapping blocks of one shape; τ is 1 in order. Dotted: the whole networks. "
        f"n = {examples}."
    )
    return Figure("shuffle", caption, canvas)


def _panel(
    arrays: Mapping[str, Any], looks: Mapping[str, Look], x_label: str, width: float | None = None
) -> tuple[Any, Any]:
    """A panel of errors in %, with the lines of chance and of the whole networks."""
    canvas, panels = canvas_of(1, 1)
    canvas.set_size_inches(width or 4.0, 3.0)
    panel = panels[0, 0]
    panel.axhline(100 * arrays["chance"].values, **CHANCE)
    for name, look in looks.items():
        panel.axhline(100 * arrays[f"{name}/error"].values, color=look.colour, lw=0.9, ls=":")
    panel.set_xlabel(x_label)
    panel.set_ylabel("error in %")
    panel.set_ylim(0, 100)
    return canvas, panel


def _legend(canvas: Any, panel: Any) -> None:
    panel.plot([], [], label="chance", **CHANCE)
    shared_legend(canvas, [panel])
