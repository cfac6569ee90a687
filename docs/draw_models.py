"""Draw the block diagrams of docs/models.md.

python docs/draw_models.py [docs/images/models]

Lengths are points (1/72 inch); y grows downwards, as the data flows.
"""

import sys
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


def conv(label: str, width: float = 60) -> Box:
    return Box(label, "conv", width)


def scale(label: str, width: float = 40) -> Box:
    return Box(label, "scale", width)


def resample(label: str, width: float = 50) -> Box:
    return Box(label, "resample", width)


def pair(*parts: Box) -> Box:
    return Box("", "", parts=parts)


def shortcut(title: str, caption: str, *skip: Box, **options: Any) -> Panel:
    return Panel(
        title, caption, **{"branch": (F,), "trunk": 22, "skip_at": 79, "skip": skip, **options}
    )


def gating(title: str, caption: str, kernel: str, **gate_to: str) -> Panel:
    gate, at = (conv(kernel, 28), SIGMOID), {"trunk": 19, "gate_at": 56, "skip_at": 94}
    return shortcut(title, caption, gate=gate, gate_to=tuple(gate_to.items()), **at)


def branch(title: str, caption: str, *boxes: Box, **options: Any) -> Panel:
    return Panel(title, caption, boxes, **{"trunk": 54, "skip_at": 106, **options})


def stem(title: str, size: int, out: str, *boxes: Box, sizes: tuple = ()) -> Panel:
    names = f"{size}×{size}×3", out
    return Panel(title, "", boxes, skip=None, trunk=56, names=names, sizes=sizes)


# fmt: off
NORM, RELU, CONV = Box("norm", "norm"), Box("ReLU", "activation"), conv("conv", 40)
F, FN, SKIP = (Box(f"${name}$", "function", 28) for name in ("F", "f", "S"))
SIGMOID = Box(r"$\sigma$", "gate", 28)
SUM, RELU_OF_SUM = "$y = x + F(x)$", r"$y = \mathrm{ReLU}(x + F(x))$"

BASIC = conv("3×3, 64"), NORM, RELU, conv("3×3, 64"), NORM
BOTTLENECK = (conv("1×1, 64"), NORM, RELU, conv("3×3, 64"), NORM, RELU, conv("1×1, 256", 100), NORM)
BLOCKS = (
    Panel("basic", RELU_OF_SUM, BASIC, (), (RELU,), trunk=66, skip_at=118, sizes=((0, "64-d"),)),
    Panel("bottleneck", RELU_OF_SUM, BOTTLENECK, (), (RELU,), trunk=66, skip_at=130,
          sizes=((0, "256-d"),)),
)

NORM_OF_SUM = "$y = \\mathrm{ReLU}(N(s))$\n$s = x + F(x)$"
ACTIVATED = "$y = x + F(a)$\n$a = \\mathrm{ReLU}(%s)$"
ORDERS = (
    Panel("original", RELU_OF_SUM, (CONV, NORM, RELU, CONV, NORM), (), (RELU,)),
    Panel("norm_after_\naddition", NORM_OF_SUM, (CONV, NORM, RELU, CONV), (), (NORM, RELU)),
    Panel("relu_before_\naddition", SUM, (CONV, NORM, RELU) * 2),
    Panel("relu_only_\npreactivation", ACTIVATED % "x", (RELU, CONV, NORM) * 2),
    Panel("full_\npreactivation", ACTIVATED % "N(x)", (NORM, RELU, CONV) * 2),
)

PROJECT = conv("1×1", 40), NORM
ELSE = "where shape changes,\nelse $y = x + F(x)$"
GATE = "$g = \\sigma(W_g x + b)$"
SHORTCUTS = (
    shortcut("none", "$y = F(x)$", skip=None, trunk=54),
    shortcut("A", "$y = P x + F(x)$", resample("subsample"), resample("zero-pad")),
    shortcut("B", f"$y = W_s x + F(x)$\n{ELSE}", *PROJECT),
    shortcut("C", "$y = W_s x + F(x)$\nin every block", *PROJECT),
    shortcut("D", f"$y = W_s M x + F(x)$\n{ELSE}", resample("2×2 mean"), *PROJECT),
    shortcut("constant_\nscaling", r"$y = \lambda x + \beta F(x)$", scale(r"$\times\,\lambda$", 30),
             branch=(F, scale(r"$\times\,\beta$", 30))),
    gating("exclusive_\ngating", f"$y = (1-g)\\,x + g\\,F(x)$\n{GATE}", "1×1",
           branch="$g$", skip="$1-g$"),
    gating("shortcut_only_\ngating", f"$y = (1-g)\\,x + F(x)$\n{GATE}", "1×1", skip="$1-g$"),
    shortcut("dropout", r"$y = \mathrm{dropout}(x) + F(x)$", scale("dropout", 46)),
    gating("highway", "$y = (1-t)\\,x + t\\,F(x)$\n$t = \\sigma(W_t * x + b)$", "3×3",
           branch="$t$", skip="$1-t$"),
)

MIDDLE, WIDE, SLICE = conv("3×3, $w$"), conv("3×3, $kw$", 80), conv("3×3", 22)
GROUPED = pair(SLICE, SLICE, conv("…", 14), SLICE)
SQUEEZE = (resample("mean", 40), pair(conv("$w/r$", 30), Box("ReLU", "activation", 34)),
           pair(conv("$w$", 30), Box(r"$\sigma$", "gate", 34)))
BRANCHES = (
    branch("plain", SUM, MIDDLE, MIDDLE),
    branch("groups,\nbottleneck_width", f"{SUM}\n$F = T_1 + \\ldots + T_g$",
           conv("1×1, $mw$"), GROUPED, conv("1×1, $4w$", 80)),
    branch("squeeze_reduction",
           "$y = x + s\\,F(x)$\n$s = \\sigma(W_2\\, \\mathrm{ReLU}(W_1 \\bar{F}))$",
           conv("3×3, $w$", 48), conv("3×3, $w$", 48), gate=SQUEEZE, gate_to=(("branch", "$s$"),),
           gate_from=2, gate_at=38, trunk=88, skip_at=124),
    branch("width_factor,\ndropout", "$y = x + W_2 D(W_1 x)$\n$D$: dropout",
           WIDE, scale("dropout", 46), WIDE),
    branch("survival_\nprobability", "$y = x + b_l F(x)$\n$P(b_l = 1) = p_l$",
           MIDDLE, MIDDLE, scale(r"$\times\,b_l$")),
    branch("antialias", "$y = W_s B x + F(x)$\n$B$: blur, then subsample",
           MIDDLE, resample("blur, /2", 60), MIDDLE, trunk=38, skip_at=100,
           skip=(resample("blur, /2", 44), conv("1×1", 44))),
    branch("skipinit, rezero,\nlayerscale", "$y = x + \\alpha F(x)$\n$\\alpha$ is learned",
           MIDDLE, MIDDLE, scale(r"$\times\,\alpha$")),
    branch("fixup", f"{SUM}\n$a$, $b_i$ are scalars",
           scale("$+\\,b_1$"), MIDDLE, scale("$+\\,b_2$"), RELU,
           scale("$+\\,b_3$"), MIDDLE, scale(r"$\times\,a,\ +\,b_4$", 60)),
)

BOTH = pair(Box("norm", "norm", 33), Box("ReLU", "activation", 33))
MAX_POOL = resample("3×3 max, /2", 66)
STEMS = (
    stem("cifar", 32, "32×32×16", conv("3×3, 16"), BOTH),
    stem("imagenet", 224, "56×56×64", conv("7×7, 64, /2", 66), BOTH, MAX_POOL,
         sizes=((2, "112×112×64"),)),
    stem("deep", 224, "56×56×64", conv("3×3, 32, /2", 66), BOTH, conv("3×3, 32"), BOTH,
         conv("3×3, 64"), BOTH, MAX_POOL,
         sizes=((2, "112×112×32"), (4, "112×112×32"), (6, "112×112×64"))),
    stem("patchify", 224, "56×56×64", conv("4×4, 64, /4", 66), BOTH),
)

RESIDUAL = (
    Panel('Residual(fn,\nnorm="pre")', "$y = S(x) + f(N(x))$", (NORM, FN), (SKIP,)),
    Panel('Residual(fn,\nnorm="post")', "$y = N(S(x) + f(x))$", (FN,), (SKIP,), (NORM,)),
    Panel('Residual(fn,\nnorm="none")', "$y = S(x) + f(x)$", (FN,), (SKIP,)),
)
# fmt: on

# Panels, columns, width of a panel, distance from split to join.
PICTURES: dict[str, tuple[tuple[Panel, ...], int, float, float]] = {
    "blocks": (BLOCKS, 2, 160, 244),
    "activation_orders": (ORDERS, 5, 108, 172),
    "shortcuts": (SHORTCUTS, 5, 108, 96),
    "branches": (BRANCHES, 4, 130, 186),
    "stems": (STEMS, 4, 112, 204),
    "residual": (RESIDUAL, 3, 112, 68),
}


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images/models")
    folder.mkdir(parents=True, exist_ok=True)
    for name, (panels, columns, width, span) in PICTURES.items():
        page(folder / f"{name}.svg", panels, columns, width, span)


if __name__ == "__main__":
    main()
