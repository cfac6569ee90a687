"""Named networks: a name stands for fields, with the parameter count that its source publishes."""

import re
from dataclasses import dataclass, field
from typing import Any

from flax import nnx

from resnet_jax.models.choices import IllegalChoiceError, pick
from resnet_jax.models.resnet import ResNet


@dataclass(frozen=True)
class Family:
    """What the networks of one data set's literature share.

    Attributes:
        stem, shortcut, num_classes: defaults.
        widths: filters per stage.
        layers_per_stage_block: depth that one more block in every stage adds, by block; used where
            all stages are equally long.
        stage_sizes: depth → (block, blocks per stage); used where they are not.
    """

    stem: str
    shortcut: str
    num_classes: int
    widths: tuple[int, ...]
    layers_per_stage_block: dict[str, int] = field(default_factory=dict)
    stage_sizes: dict[int, tuple[str, tuple[int, ...]]] = field(default_factory=dict)

    def stages(self, depth: int, block: str | None = None) -> tuple[str, tuple[int, ...]]:
        """The block and the blocks per stage of a network with `depth` weighted layers.

        Args:
            depth: convolutions on the main path and the classifier.
            block: `basic` or `bottleneck`; `None` takes what the source uses.

        Raises:
            IllegalChoiceError: the family has no network of this depth with this block.
        """
        if self.stage_sizes:
            of_block = {d: s for d, s in self.stage_sizes.items() if block in (None, s[0])}
            if depth not in of_block:
                known = ", ".join(str(d) for d in of_block) or "none"
                with_block = f" with {block} blocks" if block else ""
                raise IllegalChoiceError("depth", depth, f"{known}{with_block}")
            return of_block[depth]
        block = block or "basic"
        layers = pick("block", block, self.layers_per_stage_block)
        num_blocks, remainder = divmod(depth - 2, layers)
        if remainder or num_blocks < 1:
            below = max(num_blocks, 1) * layers + 2
            raise IllegalChoiceError(
                "depth",
                depth,
                f"{layers}n+2 with n ≥ 1 for {block} blocks; nearest: {below} and {below + layers}",
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
    # He 2015, Table 1.
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
        },
    ),
}


def resnet(
    family: str,
    depth: int,
    *,
    block: str | None = None,
    stem: str | None = None,
    shortcut: str | None = None,
    num_classes: int | None = None,
    rngs: nnx.Rngs,
    **options: Any,
) -> ResNet:
    """A network by family and depth.

    Args:
        family: `cifar` (three stages of 16, 32 and 64 filters) or `imagenet` (four, 64 to 512).
        depth: weighted layers on the main path; see `Family.stages`.
        block, stem, shortcut, num_classes: `None` takes the family's.
        rngs: the stream `params` initialises the weights.
        **options: other arguments of `ResNet`.

    Raises:
        IllegalChoiceError: an argument has no such value, or contradicts another.
    """
    members = pick("family", family, FAMILIES)
    block, stage_sizes = members.stages(depth, block)
    return ResNet(
        num_classes=members.num_classes if num_classes is None else num_classes,
        stage_sizes=stage_sizes,
        widths=members.widths,
        block=block,
        stem=stem or members.stem,
        shortcut=shortcut or members.shortcut,
        rngs=rngs,
        **options,
    )


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


def _cifar(depth: int, parameters: int, shortcut: str = "A") -> Entry:
    fields = {"family": "cifar", "depth": depth, "shortcut": shortcut}
    return Entry(fields, parameters, "He 2015, §4.2 and Table 6")


def _imagenet(depth: int, parameters: int, shortcut: str = "B") -> Entry:
    fields = {"family": "imagenet", "depth": depth, "shortcut": shortcut}
    return Entry(fields, parameters, "He 2015, Table 1; count of torchvision")


ZOO = {
    "resnet20": _cifar(20, 269_722),
    "resnet32": _cifar(32, 464_154),
    "resnet44": _cifar(44, 658_586),
    "resnet56": _cifar(56, 853_018),
    "resnet110": _cifar(110, 1_727_962),
    "resnet1202": _cifar(1202, 19_421_274),
    # Option A has no parameters, so the plain nets have as many.
    "plain20": _cifar(20, 269_722, "none"),
    "plain32": _cifar(32, 464_154, "none"),
    "plain44": _cifar(44, 658_586, "none"),
    "plain56": _cifar(56, 853_018, "none"),
    "plain110": _cifar(110, 1_727_962, "none"),
    "resnet18": _imagenet(18, 11_689_512),
    "resnet34": _imagenet(34, 21_797_672),
    "resnet50": _imagenet(50, 25_557_032),
    "resnet101": _imagenet(101, 44_549_160),
    "resnet152": _imagenet(152, 60_192_808),
    # The residual net's count without its three projections: 173,824.
    "plain18": _imagenet(18, 11_515_688, "none"),
    "plain34": _imagenet(34, 21_623_848, "none"),
}


def create(
    name: str, *, num_classes: int | None = None, rngs: nnx.Rngs, **overrides: Any
) -> ResNet:
    """A network by name.

    Args:
        name: a key of `ZOO`, or `resnetN` or `plainN` with any depth N = 6n+2, which is a CIFAR net.
        num_classes: size of the logits; `None` takes the family's.
        rngs: the stream `params` initialises the weights.
        **overrides: arguments of `resnet` and `ResNet` that replace those of the name.

    Returns:
        The network in train mode; `model.eval()` normalises by the running statistics.

    Raises:
        IllegalChoiceError: unknown name, or an argument that has no such value.

    Example:
        >>> model = create("resnet50", num_classes=1000, rngs=nnx.Rngs(0), zero_gamma=True)
    """
    return resnet(**{**_fields(name), **overrides}, num_classes=num_classes, rngs=rngs)


def _fields(name: str) -> dict[str, Any]:
    if name in ZOO:
        return ZOO[name].fields
    match = re.fullmatch(r"(resnet|plain)(\d+)", name)
    if not match:
        raise IllegalChoiceError(
            "name", name, f"{', '.join(ZOO)}, or resnetN and plainN with N = 6n+2"
        )
    kind, depth = match.groups()
    return {"family": "cifar", "depth": int(depth), "shortcut": "none" if kind == "plain" else "A"}
