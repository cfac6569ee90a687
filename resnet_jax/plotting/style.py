"""How plots look: readable at half width, in colour and in grey.

Lines differ in marker and dash as well as in colour, and colours of an ordered axis differ in lightness.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes as Panel
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

# Config strings are text, not formulas; labels become outlines, so that a page needs no font.
RC: Any = {
    "font.size": 10,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.6,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "svg.hashsalt": "resnet_jax",
    "text.parse_math": False,
    "text.usetex": False,
}
PANEL = (3.0, 2.6)
COLUMNS = 3
# Characters of the font above on a panel.
TITLE_WIDTH = 30
MARKERS = "osD^vPX*<>hp"
DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 2)),
    (0, (1, 1.5)),
    (0, (5, 2, 1, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
)
SIGNS: dict[str, dict[str, Any]] = {
    "literature": {"ls": "", "marker": "D", "ms": 7, "mfc": "none", "mew": 1.2},
    "all failed": {"ls": "", "marker": "x", "ms": 7, "mew": 2},
    "stopped early": {"ls": "", "marker": "x", "ms": 5.5, "mew": 1.3},
    "diverged or failed": {"ls": "", "marker": "^", "ms": 6, "mfc": "none", "mew": 1.2},
}
# After Okabe & Ito 2008, without its yellow; neighbours differ in lightness, for print in grey.
COLOURS = ("#08519C", "#D9701A", "#000000", "#009E73", "#CC79A7", "#56B4E9", "#8C564B")


@dataclass(frozen=True)
class Figure:
    """A picture for the page and for papers.

    Attributes:
        name: of its files.
        caption: what is shown, what was averaged, n.
        canvas: the drawing.
    """

    name: str
    caption: str
    canvas: Canvas


@dataclass(frozen=True)
class Look:
    """Of one line: `colour`, `marker` and `dash`, the last two as Matplotlib takes them."""

    colour: Any
    marker: str
    dash: Any


def looks_of(count: int, ordered: bool) -> list[Look]:
    """`count` looks; ordered ones go from light to dark."""
    if ordered and count > 2:
        shades = matplotlib.colormaps["viridis_r"](np.linspace(0.18, 0.98, count))
        colours: list[Any] = [tuple(shade) for shade in shades]
    else:
        colours = [COLOURS[i % len(COLOURS)] for i in range(count)]
    return [
        Look(colour, MARKERS[i % len(MARKERS)], DASHES[i % len(DASHES)])
        for i, colour in enumerate(colours)
    ]


def canvas_of(rows: int, columns: int, **options: Any) -> tuple[Canvas, np.ndarray]:
    """A drawing of equal panels [rows, columns], under `matplotlib.rc_context(RC)`."""
    width, height = PANEL
    size = (0.5 + width * columns, 0.2 + height * rows)
    canvas = Canvas(figsize=size, layout="constrained")
    return canvas, canvas.subplots(rows, columns, squeeze=False, **options)


def panels_for(count: int, **options: Any) -> tuple[Canvas, np.ndarray, list[Panel]]:
    """A drawing with at most three panels a row: canvas, all panels [rows, columns], and those in use."""
    columns = min(count, COLUMNS)
    canvas, panels = canvas_of(-(-count // columns), columns, **options)
    used = panels.ravel().tolist()
    for empty in used[count:]:
        empty.set_visible(False)
    return canvas, panels, used[:count]


def in_lines(name: str) -> str:
    """A run's name in lines no wider than a panel, broken after a `,` or `/`."""
    lines = [""]
    for part in re.findall("[^,/]*[,/]?", name):
        if lines[-1] and len(lines[-1]) + len(part) > TITLE_WIDTH:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def label_outer(panels: np.ndarray, x_label: str, y_label: str) -> None:
    """Axis labels on the left and lower edge; empty panels vanish."""
    for row in panels:
        for i, panel in enumerate(row):
            if not panel.has_data():
                panel.set_visible(False)
                continue
            panel.set_xlabel(x_label)
            if i == 0:
                panel.set_ylabel(y_label)


def shared_legend(canvas: Canvas, panels: Sequence[Panel], **options: Any) -> None:
    """One legend below all panels, each label once."""
    handles: dict[str, Any] = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    # Signs come last, and in grey: they appear in every colour.
    for label, sign in SIGNS.items():
        if handles.pop(label, None) is not None:
            handles[label] = Line2D([], [], color="0.35", **sign)
    if handles:
        entry = 0.065 * max(len(label) for label in handles) + 0.5
        # A long name must not be cut off.
        width = max(canvas.get_figwidth(), entry)
        canvas.set_figwidth(width)
        columns = min(len(handles), max(1, int(width / entry)))
        # Rows of the legend must not be taken from the panels.
        canvas.set_figheight(canvas.get_figheight() + 0.17 * -(-len(handles) // columns))
        canvas.legend(
            list(handles.values()),
            list(handles),
            loc="outside lower center",
            ncols=columns,
            columnspacing=1.2,
            handlelength=1.8,
            handletextpad=0.5,
            **options,
        )
