"""Names of our arrays in the state dicts of other code: one table, and its lookup.

Rows map a module of `models.ResNet` to a module there, or to several names in use, of which the first
is written. Placeholders stand for numbers: `{stage}` counts from 1, `{stage0}` from 0; `{block}` from
0; `{n}`, a layer in a branch, from 1, `{n0}` from 0, and `{n1}` is n + 1.
"""

import re
from collections.abc import Collection, Iterable, Mapping

from flax import nnx

from resnet_jax.models import STEMS, ResNet
from resnet_jax.models.shortcuts import AveragePoolProjection

Rows = Mapping[str, str | tuple[str, ...]]
Names = dict[str, tuple[str, ...]]


def _in_blocks(prefix: str, rows: Rows) -> dict[str, tuple[str, ...]]:
    """Rows within a block, theirs under `prefix`."""
    return {
        f"stage{{stage}}.blocks.{{block}}.{ours}": tuple(prefix + name for name in _several(theirs))
        for ours, theirs in rows.items()
    }


def _several(theirs: str | tuple[str, ...]) -> tuple[str, ...]:
    return (theirs,) if isinstance(theirs, str) else theirs


# What no other code has (our extension) is named alike under every naming; SE and `ls` are timm's.
_PARTS: Rows = {
    "branch.conv{n}": "conv{n}",
    "branch.squeeze_excite.reduce": ("se.fc1", "se.conv_reduce"),
    "branch.squeeze_excite.expand": ("se.fc2", "se.conv_expand"),
    "branch.bias{n}": "bias{n}",  # Fixup
    "norm": "norm",  # norm_after_addition
    "scale": "ls",  # skipinit, rezero, layerscale
    "shortcut.gate": "gate",  # the gated shortcuts and highway
}
_HEAD = ("fc", "linear", "classifier", "head.fc", "head", "last_linear")

# naming → kind of network (`kinds`) → rows. Those of a later kind replace those of an earlier one.
NAMINGS: dict[str, dict[str, Rows]] = {
    # torchvision, timm's ResNet, mmpretrain; also the CIFAR code in use, with `linear` and `shortcut`.
    "torchvision": {
        "any": {
            "stem.conv": "conv1",
            "stem.norm": "bn1",
            "stem.conv1": "conv1.0",
            "stem.norm1": "conv1.1",
            "stem.conv2": "conv1.3",
            "stem.norm2": "conv1.4",
            "stem.conv3": "conv1.6",
            "norm": "norm",
            "head": _HEAD,
            **_in_blocks(
                "layer{stage}.{block}.",
                {
                    **_PARTS,
                    "branch.norm{n}": "bn{n}",
                    "shortcut.conv": ("downsample.0", "shortcut.0"),
                    "shortcut.norm": ("downsample.1", "shortcut.1"),
                },
            ),
        },
        "preactivation": {
            "norm": ("bn", "bn1", "norm"),
            **_in_blocks("layer{stage}.{block}.", {"norm": "bn1", "branch.norm{n}": "bn{n1}"}),
        },
        "average_pool": _in_blocks(
            "layer{stage}.{block}.",
            {"shortcut.conv": "downsample.1", "shortcut.norm": "downsample.2"},
        ),
    },
    # timm's ResNetV2, so BiT; its classifier is a 1×1 convolution.
    "timm_resnetv2": {
        "any": {
            "stem.conv": "stem.conv",
            "stem.norm": "stem.norm",
            "stem.conv{n}": "stem.conv{n}",
            "stem.norm{n}": "stem.norm{n}",
            "norm": "norm",
            "head": "head.fc",
            **_in_blocks(
                "stages.{stage0}.blocks.{block}.",
                {
                    **_PARTS,
                    "norm": "norm",
                    "branch.norm{n}": "norm{n}",
                    "shortcut.conv": "downsample.conv",
                    "shortcut.norm": "downsample.norm",
                },
            ),
        },
        "preactivation": _in_blocks(
            "stages.{stage0}.blocks.{block}.", {"norm": "norm1", "branch.norm{n}": "norm{n1}"}
        ),
    },
    # Hugging Face transformers, ResNetForImageClassification.
    "transformers_resnet": {
        "any": {
            "stem.conv": "resnet.embedder.embedder.convolution",
            "stem.norm": "resnet.embedder.embedder.normalization",
            "norm": "resnet.norm",
            "head": "classifier.1",
            **_in_blocks(
                "resnet.encoder.stages.{stage0}.layers.{block}.",
                {
                    **_PARTS,
                    "branch.conv{n}": "layer.{n0}.convolution",
                    "branch.norm{n}": "layer.{n0}.normalization",
                    "shortcut.conv": "shortcut.convolution",
                    "shortcut.norm": "shortcut.normalization",
                },
            ),
        },
    },
    # Hugging Face transformers, BitForImageClassification.
    "transformers_bit": {
        "any": {
            "stem.conv": "bit.embedder.convolution",
            "stem.norm": "bit.embedder.norm",
            "norm": "bit.norm",
            "head": "classifier.1",
            **_in_blocks(
                "bit.encoder.stages.{stage0}.layers.{block}.",
                {
                    **_PARTS,
                    "branch.norm{n}": "norm{n}",
                    "shortcut.conv": "downsample.conv",
                    "shortcut.norm": "downsample.norm",
                },
            ),
        },
        "preactivation": _in_blocks(
            "bit.encoder.stages.{stage0}.layers.{block}.",
            {"norm": "norm1", "branch.norm{n}": "norm{n1}"},
        ),
    },
    # The common code of Wide ResNet.
    "wide_resnet": {
        "preactivation": {
            "stem.conv": "conv1",
            "norm": "bn1",
            "head": _HEAD,
            **_in_blocks(
                "block{stage}.layer.{block}.",
                {
                    **_PARTS,
                    "norm": "bn1",
                    "branch.norm{n}": "bn{n1}",
                    "shortcut.conv": "convShortcut",
                },
            ),
        },
    },
}
CONVOLUTIONAL_HEAD = ("timm_resnetv2",)
LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
    "value": "gamma",
}
_WRAPPERS = re.compile(r"^(?:(?:module|_orig_mod|model|backbone|resnet|bit)\.)+")


def kinds(model: ResNet) -> tuple[str, ...]:
    """Of the kinds that `NAMINGS` tells apart, those that the network is of."""
    found = ["any"]
    modules = [module for _, module in nnx.iter_modules(model)]
    if any(getattr(module, "norm_position", None) == "pre" for module in modules):
        found.append("preactivation")
    if any(isinstance(module, AveragePoolProjection) for module in modules):
        found.append("average_pool")
    return tuple(found)


def default_naming(model: ResNet) -> str:
    """The naming in which torchvision, timm or the CIFAR code has such a network."""
    preactivation = "preactivation" in kinds(model)
    on_cifar = isinstance(model.stem, STEMS["cifar"])
    return "timm_resnetv2" if preactivation and not on_cifar else "torchvision"


def their_names(ours: Iterable[str], naming: str, of_kinds: tuple[str, ...]) -> Names:
    """Our dotted names (`stage1.blocks.0.branch.conv1.kernel`) → names that the arrays may have there.

    Args:
        ours: names.
        naming: a key of `NAMINGS`.
        of_kinds: of the network, by `kinds`.

    Returns:
        The first of several is the one to write; there is none if the naming has no such part.
    """
    rows: dict[str, str | tuple[str, ...]] = {}
    for kind in of_kinds:
        rows |= NAMINGS[naming].get(kind, {})
    patterns = [(_pattern(row), _several(theirs)) for row, theirs in rows.items()]
    names = {}
    for name in ours:
        module, _, leaf = name.rpartition(".")
        modules = _replace(module, patterns)
        names[name] = tuple(f"{theirs}.{LEAVES[leaf]}" for theirs in modules)
    return names


def recognise(
    ours: Iterable[str], of_kinds: tuple[str, ...], bare: Collection[str]
) -> tuple[str, Names]:
    """The naming under which most of our names are found among `bare` ones, and theirs under it."""
    candidates = {naming: their_names(ours, naming, of_kinds) for naming in NAMINGS}

    def hits(naming: str) -> int:
        names = candidates[naming].values()
        return sum(any(bare_name(name) in bare for name in theirs) for theirs in names)

    best = max(candidates, key=hits)
    return best, candidates[best]


def bare_name(theirs: str) -> str:
    """Without what wrappers put before it (`module.` of DataParallel, `resnet.` of transformers)."""
    return _WRAPPERS.sub("", theirs)


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>\\d+)", re.escape(template)))


def _replace(
    module: str, patterns: list[tuple[re.Pattern[str], tuple[str, ...]]]
) -> tuple[str, ...]:
    for pattern, theirs in patterns:
        match = pattern.fullmatch(module)
        if match:
            numbers = {name: int(text) for name, text in match.groupdict().items()}
            stage, n = numbers.get("stage", 0), numbers.get("n", 0)
            numbers |= {"stage0": stage - 1, "n0": n - 1, "n1": n + 1}
            return tuple(name.format(**numbers) for name in theirs)
    return ()
