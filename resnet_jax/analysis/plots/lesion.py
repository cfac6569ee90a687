"""Plots of `lesion`."""

from collections.abc import Mapping, Sequence
from typing import Any

from resnet_jax.report.style import Figure, canvas_of, looks_of, shared_legend


def deletion_figure(arrays: Mapping[str, Any], names: Sequence[str]) -> Figure:
    """Test error after deleting each block, against its place (Veit 2016, Fig. 3)."""
    canvas, panels = canvas_of(1, 1)
    panel = panels[0, 0]
    for name, look in zip(names, looks_of(len(names), ordered=False), strict=True):
        error = 100 * arrays[f"{name}/deletion_error"].values
        places = range(1, len(error) + 1)
        panel.plot(
            places, error, color=look.colour, marker=look.marker, ls=look.dash, ms=3, label=name
        )
        panel.axhline(100 * arrays[f"{name}/error"].values, color=look.colour, lw=0.8, ls=":")
    panel.set_xlabel("deleted block")
    panel.set_ylabel("error in %")
    shared_legend(canvas, panels.ravel().tolist())
    caption = "Error after deleting one block; dotted: of the whole network."
    return Figure("deletion", caption, canvas)
