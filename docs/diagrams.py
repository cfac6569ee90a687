"""Block diagrams: boxes down a trunk, a skip path beside it.

Lengths are points (1/72 inch); y grows downwards, as the data flows.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch

plt.rcParams.update({"svg.hashsalt": "resnet_jax", "mathtext.fontset": "stix", "font.size": 8.5})
HEIGHT, GAP, RADIUS = 16, 10, 6  # of a box, between boxes, of a sign

# Fill, text, outline, rounding. The fills differ in lightness too, for print in grey.
STYLES = {
    "conv": ("#8cbfe3", "black", "-", 1),
    "norm": ("#fcf0c4", "black", "-", 1),
    "activation": ("#e07b39", "black", "-", HEIGHT / 2),
    "gate": ("#55407a", "white", "-", HEIGHT / 2),
    "resample": ("#b5e2cf", "black", "-", 4),
    "scale": ("white", "black", "--", 4),
    "function": ("#d0d0d0", "black", "-", 1),
}


@dataclass(frozen=True)
class Box:
    """A labelled step, or several side by side (`parts`)."""

    label: str
    kind: str
    width: float = 40
    parts: tuple["Box", ...] = ()


Boxes = tuple[Box, ...]


@dataclass(frozen=True)
class Panel:
    """One diagram: boxes down the trunk, a skip path to its right, a gate beside it.

    Attributes:
        title: lines above it: the config value.
        caption: lines below it: the equation.
        branch, skip, after: boxes between split and join, on the skip path (None: there is none),
            and behind the join.
        gate: boxes that compute a factor from the output of the first `gate_from` branch boxes.
        gate_to: path → name of the factor that it is multiplied by.
        trunk, skip_at, gate_at: x of the paths.
        names: of input and output.
        sizes: texts beside the arrow behind the k-th box; k = 0 is the input.
    """

    title: str
    caption: str
    branch: Boxes
    skip: Boxes | None = ()
    after: Boxes = ()
    gate: Boxes = ()
    gate_to: tuple[tuple[str, str], ...] = ()
    gate_from: int = 0
    trunk: float = 44
    skip_at: float = 84
    gate_at: float = 54
    names: tuple[str, str] = ("$x$", "$y$")
    sizes: tuple[tuple[int, str], ...] = ()


def text(axes: Axes, x: float, y: float, words: str, **style: Any) -> None:
    axes.text(x, y, words, **{"ha": "center", "va": "center_baseline", **style})


def box(axes: Axes, x: float, y: float, item: Box) -> None:
    """A box with its centre at (x, y)."""
    place = x - sum(part.width for part in item.parts) / 2
    for part in item.parts:
        box(axes, place + part.width / 2, y, part)
        place += part.width
    if not item.parts:
        fill, ink, line, rounding = STYLES[item.kind]
        corner, shape = (
            (x - item.width / 2, y - HEIGHT / 2),
            f"round,pad=0,rounding_size={rounding}",
        )
        look = {"fc": fill, "ec": "black", "ls": line, "lw": 0.8, "zorder": 2}
        axes.add_patch(FancyBboxPatch(corner, item.width, HEIGHT, boxstyle=shape, **look))
        text(axes, x, y, item.label, color=ink)


def sign(axes: Axes, x: float, y: float, symbol: str) -> None:
    """A circle with + or × in it."""
    axes.add_patch(Circle((x, y), RADIUS, fc="white", ec="black", lw=0.9, zorder=3))
    for dx, dy in ((3.4, 0), (0, 3.4)) if symbol == "+" else ((2.5, 2.5), (2.5, -2.5)):
        axes.plot((x - dx, x + dx), (y - dy, y + dy), color="black", lw=1, zorder=4)


def path(axes: Axes, *points: tuple[float, float], head: bool = True) -> None:
    """A line through the points, with an arrow head at the last."""
    xs, ys = zip(*(points[:-1] if head else points), strict=True)
    axes.plot(xs, ys, color="black", lw=0.9, zorder=1.5, solid_capstyle="projecting")
    if head:
        style = "-|>,head_length=4,head_width=2.2"
        arrow = {"arrowstyle": style, "mutation_scale": 1, "shrinkA": 0, "shrinkB": 0}
        axes.add_patch(FancyArrowPatch(*points[-2:], color="black", lw=0.9, zorder=1.5, **arrow))


def chain(
    axes: Axes, x: float, top: float, bottom: float, boxes: Boxes, head: bool = True
) -> list[float]:
    """Boxes spread evenly between two heights and joined by arrows; gives the arrows' middles."""
    gap = (bottom - top - len(boxes) * HEIGHT) / (len(boxes) + 1)
    starts = [top + number * (gap + HEIGHT) for number in range(len(boxes) + 1)]
    for start, item in zip(starts, boxes, strict=False):
        path(axes, (x, start), (x, start + gap))
        box(axes, x, start + gap + HEIGHT / 2, item)
    path(axes, (x, starts[-1]), (x, bottom), head=head)
    return [start + gap / 2 for start in starts]


def draw(axes: Axes, left: float, top: float, width: float, span: float, panel: Panel) -> None:
    """A panel; `span` is the distance from the split to the join and what is behind it."""
    trunk, skip, centre = left + panel.trunk, left + panel.skip_at, left + width / 2
    for number, line in enumerate(reversed(panel.title.split("\n"))):
        text(axes, centre, top - 11 * number, line, family="monospace", weight="bold")
    start, split = top + 18, top + 35
    join, last = split + span - (HEIGHT + GAP) * len(panel.after), split + span + RADIUS + GAP + 2
    size = 8.5 if "×" in panel.names[0] else 11
    text(axes, trunk, start, panel.names[0], size=size)
    text(axes, trunk, last + 8, panel.names[1], size=size)
    arrows: list[float] = []
    if panel.gate:
        draw_gate(axes, left, split, join, panel)
    elif panel.skip is None:
        arrows = chain(axes, trunk, start + 7, last, panel.branch)
    else:
        arrows = chain(axes, trunk, split, join - RADIUS, panel.branch)
    if panel.skip is not None:
        path(axes, (trunk, start + 7), (trunk, split), (skip, split), head=False)
        if "skip" not in dict(panel.gate_to):
            chain(axes, skip, split, join, panel.skip, head=False)
        path(axes, (skip, join), (trunk + RADIUS, join))
        sign(axes, trunk, join, "+")
        chain(axes, trunk, join + RADIUS, last, panel.after)
    for place, words in panel.sizes:
        text(axes, trunk + 8, arrows[place] if place else start, words, ha="left", size=8)
    for number, line in enumerate(panel.caption.split("\n")):
        text(axes, centre, last + 27 + 13 * number, line, size=10, family="STIXGeneral")


def draw_gate(axes: Axes, left: float, split: float, join: float, panel: Panel) -> None:
    """The trunk, the gate beside it and the products that the gate takes part in."""
    trunk, gate, product = left + panel.trunk, left + panel.gate_at, join - 26
    fork = split + ((HEIGHT + GAP) * panel.gate_from + 8 if panel.gate_from else 0)
    on_branch = "branch" in dict(panel.gate_to)
    end, reach = product - RADIUS, (product if on_branch else join) - RADIUS
    last = fork if panel.gate_from else end
    chain(axes, trunk, split, last, panel.branch, head=last == reach)
    if last < reach:
        path(axes, (trunk, last), (trunk, reach))
    path(axes, (trunk, fork), (gate, fork), head=False)
    chain(axes, gate, fork, product, panel.gate, head=False)
    for target, factor in panel.gate_to:
        x = trunk if target == "branch" else left + panel.skip_at
        inner = x + RADIUS * (1 if gate > x else -1)
        path(axes, (gate, product), (inner, product))
        text(axes, (gate + inner) / 2, product - 6.5, factor, size=9.5)
        sign(axes, x, product, "×")
        if target == "branch":
            path(axes, (x, product + RADIUS), (x, join - RADIUS))
        else:
            path(axes, (x, split), (x, end))
            path(axes, (x, product + RADIUS), (x, join), head=False)


def page(file: Path, panels: tuple[Panel, ...], columns: int, width: float, span: float) -> None:
    """A picture of panels of one width, row by row."""
    head = 11 + 11 * max(panel.title.count("\n") for panel in panels)
    foot = 13 * max(bool(panel.caption) + panel.caption.count("\n") for panel in panels)
    height = head + 35 + span + 46 + foot
    size = columns * width, -(-len(panels) // columns) * height
    figure = plt.figure(figsize=(size[0] / 72, size[1] / 72))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, size[0]), ylim=(size[1], 0))
    axes.set_axis_off()
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        # A stem has no join to line up with the others'.
        own = span if panel.names[0] == "$x$" else len(panel.branch) * (HEIGHT + 14) - RADIUS
        draw(axes, column * width, row * height + head, width, own, panel)
    figure.savefig(file, metadata={"Date": None}, facecolor="white")
    plt.close(figure)
