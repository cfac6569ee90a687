"""Draw the block diagrams of docs/models.md.

python docs/draw_models.py [docs/images/models]
"""

import sys
from pathlib import Path
from typing import Any

from diagrams import Box, Panel, page


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
