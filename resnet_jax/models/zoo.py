"""Named networks: a name stands for fields, with the parameter count that its source publishes."""

import re
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from flax import nnx

from resnet_jax.models.choices import IllegalChoiceError, member, pick
from resnet_jax.models.initialise import initialise
from resnet_jax.models.resnet import ResNet


@dataclass(frozen=True)
class Family:
    """What the networks of one data set's literature share.

    Attributes:
        stem, shortcut, num_classes, activation_order: defaults.
        widths: filters per stage.
        outer_layers: weighted layers that are not in the branch of a block.
        layers_per_stage_block: depth that one more block in every stage adds, by block; used where
            all stages are equally long.
        stage_sizes: depth → (block, blocks per stage); used where they are not.
    """

    stem: str
    shortcut: str
    num_classes: int
    widths: tuple[int, ...]
    activation_order: str = "original"
    outer_layers: int = 2
    layers_per_stage_block: dict[str, int] = field(default_factory=dict)
    stage_sizes: dict[int, tuple[str, tuple[int, ...]]] = field(default_factory=dict)

    def defaults(self) -> dict[str, Any]:
        """Fields that are the family's unless others are given."""
        names = ("stem", "shortcut", "num_classes", "widths", "activation_order")
        return {name: getattr(self, name) for name in names}

    def stages(self, depth: int, block: str | None = None) -> tuple[str, tuple[int, ...]]:
        """The block and the blocks per stage of a network with `depth` weighted layers.

        Args:
            depth: convolutions on the main path and the classifier.
            block: `basic` or `bottleneck`; `None` takes what the source uses.

        Raises:
            IllegalChoiceError: the family has no network of this depth with this block.
        """
        if self.stage_sizes:
            member("block", block or "basic", ("basic", "bottleneck"))
            of_block = {d: s for d, s in self.stage_sizes.items() if block in (None, s[0])}
            if depth not in of_block:
                known = ", ".join(str(d) for d in of_block) or "none"
                with_block = f" with {block} blocks" if block else ""
                raise IllegalChoiceError("depth", depth, f"{known}{with_block}")
            return of_block[depth]
        block = block or "basic"
        layers = pick("block", block, self.layers_per_stage_block)
        num_blocks, remainder = divmod(depth - self.outer_layers, layers)
        if remainder or num_blocks < 1:
            below = max(num_blocks, 1) * layers + self.outer_layers
            raise IllegalChoiceError(
                "depth",
                depth,
                f"{layers}n+{self.outer_layers} with n ≥ 1 for {block} blocks; "
                f"nearest: {below} and {below + layers}",
            )
        return block, (num_blocks,) * len(self.widths)


FAMILIES = {
    # He 2015, §4.2: 6n+2 layers; the bottleneck nets of 9n+2 layers are He 2016's.
    "cifar": Family(
        stem="cifar",
        shortcut="A",
        num_classes=10,
        widths=(16, 32, 64),
        layers_per_stage_block={"basic": 6, "bottleneck": 9},
    ),
    # Zagoruyko & Komodakis 2016, Table 1: 6n+4 layers, as three projections count.
    "wide": Family(
        stem="cifar",
        shortcut="B",
        num_classes=10,
        widths=(16, 32, 64),
        activation_order="full_preactivation",
        outer_layers=4,
        layers_per_stage_block={"basic": 6},
    ),
    # He 2015, Table 1; 200 layers: He 2016, Table 5.
    "imagenet": Family(
        stem="imagenet",
        shortcut="B",
        num_classes=1000,
        widths=(64, 128, 256, 512),
        stage_sizes={
            18: ("basic", (2, 2, 2, 2)),
            34: ("basic", (3, 4, 6, 3)),
            50: ("bottleneck", (3, 4, 6, 3)),
            101: ("bottleneck", (3, 4, 23, 3)),
            152: ("bottleneck", (3, 8, 36, 3)),
            200: ("bottleneck", (3, 24, 36, 3)),
        },
    ),
}


def resnet(family: str, depth: int, *, rngs: nnx.Rngs, **fields: Any) -> ResNet:
    """A network by family and depth.

    Args:
        family: `cifar` (three stages of 16, 32 and 64 filters), `wide` (the same, pre-activated, for a
            `width_factor`) or `imagenet` (four, 64 to 512).
        depth: weighted layers on the main path; see `Family.stages`.
        rngs: the stream `params` initialises the weights.
        **fields: of `spec.NetworkSpec`. Without a value, or with None, `block`, `stem`, `shortcut`,
            `activation_order` and `num_classes` are the family's.

    Raises:
        IllegalChoiceError: an argument has no such value, or contradicts another.
    """
    members = pick("family", family, FAMILIES)
    given = {name: value for name, value in fields.items() if value is not None}
    block, stage_sizes = members.stages(depth, given.pop("block", None))
    return ResNet(**members.defaults() | given, block=block, stage_sizes=stage_sizes, rngs=rngs)


@dataclass(frozen=True)
class Entry:
    """One named network.

    Attributes:
        fields: arguments of `resnet`.
        parameters: published count, with the family's number of classes.
        source: where network and count are from.
    """

    fields: dict[str, Any]
    parameters: int
    source: str


def _cifar(depth: int, parameters: int) -> Entry:
    fields = {"family": "cifar", "depth": depth, "shortcut": "A"}
    return Entry(fields, parameters, "He 2015, §4.2 and Table 6")


def _plain(depth: int, parameters: int) -> Entry:
    fields = {"family": "cifar", "depth": depth, "shortcut": "none"}
    return Entry(fields, parameters, "He 2015, §4.2; derived: shortcut A has no parameters")


def _preactivation(depth: int, parameters: int, **fields: Any) -> Entry:
    order = {"activation_order": "full_preactivation"}
    fields = {"family": "cifar", "depth": depth, **order, **fields}
    return Entry(fields, parameters, "He 2016, Table 3")


def _wide(depth: int, width_factor: int, parameters: int) -> Entry:
    fields = {"family": "wide", "depth": depth, "width_factor": width_factor}
    return Entry(fields, parameters, "Zagoruyko & Komodakis 2016, Table 4")


def _imagenet(
    depth: int,
    parameters: int,
    source: str = "He 2015, Table 1; count of torchvision",
    **fields: Any,
) -> Entry:
    return Entry({"family": "imagenet", "depth": depth, **fields}, parameters, source)


_RESNEXT = "Xie et al. 2017; count of torchvision"
_WIDE = "Zagoruyko & Komodakis 2016, Table 8; count of torchvision"
_PLAIN = "He 2015, Fig. 3; derived: the residual net without its three projections, 173,824"
_OWN_GATES = "derived: count of the 110-layer net and a gate a block"

ZOO = {
    "resnet20": _cifar(20, 269_722),
    "resnet32": _cifar(32, 464_154),
    "resnet44": _cifar(44, 658_586),
    "resnet56": _cifar(56, 853_018),
    "resnet110": _cifar(110, 1_727_962),
    "resnet1202": _cifar(1202, 19_421_274),
    "plain20": _plain(20, 269_722),
    "plain32": _plain(32, 464_154),
    "plain44": _plain(44, 658_586),
    "plain56": _plain(56, 853_018),
    "plain110": _plain(110, 1_727_962),
    "preact_resnet110": _preactivation(110, 1_727_962),
    "preact_resnet164": _preactivation(164, 1_703_258, block="bottleneck", shortcut="B"),
    "preact_resnet1001": _preactivation(1001, 10_327_706, block="bottleneck", shortcut="B"),
    "wrn16_8": _wide(16, 8, 10_961_370),
    "wrn28_10": _wide(28, 10, 36_479_194),
    "wrn40_4": _wide(40, 4, 8_949_210),
    "gated110": Entry(
        {"family": "cifar", "depth": 110, "shortcut": "shortcut_only_gating", "gate_bias": -6.0},
        1_824_186,
        f"He 2016, Table 1; {_OWN_GATES} (1×1)",
    ),
    "highway110": Entry(
        {
            "family": "cifar",
            "depth": 110,
            "shortcut": "highway",
            "activation_order": "relu_before_addition",
            "gate_bias": -2.0,
        },
        2_577_850,
        f"Srivastava et al. 2015, eq. 3; {_OWN_GATES} (3×3)",
    ),
    "resnet18_cifar": Entry(
        {"family": "imagenet", "depth": 18, "stem": "cifar", "num_classes": 10},
        11_173_962,
        "ResNet-18 with the stem of He 2015, §4.2; count of mmpretrain",
    ),
    "resnet18": _imagenet(18, 11_689_512),
    "resnet34": _imagenet(34, 21_797_672),
    "resnet50": _imagenet(50, 25_557_032),
    "resnet101": _imagenet(101, 44_549_160),
    "resnet152": _imagenet(152, 60_192_808),
    "resnet200": _imagenet(200, 64_673_832, "He 2016, Table 5; count of timm"),
    "plain18": _imagenet(18, 11_515_688, _PLAIN, shortcut="none"),
    "plain34": _imagenet(34, 21_623_848, _PLAIN, shortcut="none"),
    "resnext50_32x4d": _imagenet(50, 25_028_904, _RESNEXT, groups=32, bottleneck_width=2),
    "resnext101_32x8d": _imagenet(101, 88_791_336, _RESNEXT, groups=32, bottleneck_width=4),
    "resnext101_64x4d": _imagenet(101, 83_455_272, _RESNEXT, groups=64, bottleneck_width=4),
    "wide_resnet50_2": _imagenet(50, 68_883_240, _WIDE, bottleneck_width=2),
    "wide_resnet101_2": _imagenet(101, 126_886_696, _WIDE, bottleneck_width=2),
    "seresnet50": _imagenet(
        50, 28_088_024, "Hu et al. 2018, Table 2; count of timm", squeeze_reduction=16
    ),
    "resnet50d": _imagenet(
        50, 25_576_264, "He et al. 2019, Table 5; count of timm", stem="deep", shortcut="D"
    ),
    "bit_r50x1": _imagenet(
        50,
        25_549_352,
        "Kolesnikov et al. 2020, §3.2; count of timm",
        stem="bit",
        activation_order="full_preactivation",
        norm="group",
        norm_groups=32,
        weight_standardization=True,
    ),
}


def create(
    name: str,
    *,
    num_classes: int | None = None,
    seed: int | None = None,
    rngs: nnx.Rngs | None = None,
    **overrides: Any,
) -> ResNet:
    """A network by name, with fresh weights.

    Args:
        name: a key of `ZOO`, or `cifar_resnetN` or `cifar_plainN` with any depth N = 6n+2.
        num_classes: size of the logits; `None` takes the named network's.
        seed: of the weights, which one compiled call makes (`initialise`); `None` is 0.
        rngs: instead of `seed`: the stream `params` initialises the weights, layer by layer.
        **overrides: arguments of `resnet` that replace the named network's.

    Returns:
        The network in train mode; `model.eval()` normalises by the running statistics.

    Raises:
        IllegalChoiceError: unknown name, an argument that has no such value, or both `seed` and `rngs`.

    Example:
        >>> model = create("resnet50", num_classes=1000, seed=0, branch_init="zero_gamma")
    """
    if seed is not None and rngs is not None:
        raise IllegalChoiceError("seed", seed, "None, where rngs are given")
    fields = {**_fields(name), **overrides}
    if num_classes is not None:
        fields["num_classes"] = num_classes
    build = partial(resnet, **fields)
    return build(rngs=rngs) if rngs is not None else initialise(lambda r: build(rngs=r), seed or 0)


def _fields(name: str) -> dict[str, Any]:
    if name in ZOO:
        return ZOO[name].fields
    match = re.fullmatch(r"(cifar_)?(resnet|plain)(\d+)", name)
    if not match:
        any_depth = "cifar_resnetN and cifar_plainN with N = 6n+2"
        raise IllegalChoiceError("name", name, f"{', '.join(ZOO)}, or {any_depth}", ZOO)
    prefix, kind, depth = match.groups()
    if not prefix:
        allowed = f"cifar_{name} for a CIFAR net of this depth, or {', '.join(ZOO)}"
        raise IllegalChoiceError("name", name, allowed, [f"cifar_{name}", *ZOO])
    return {"family": "cifar", "depth": int(depth), "shortcut": "none" if kind == "plain" else "A"}
