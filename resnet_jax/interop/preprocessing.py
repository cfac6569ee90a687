"""How images were prepared for published weights: it belongs to the weights as much as their shapes do."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from resnet_jax.models import STEMS, ResNet
from resnet_jax.strict_json import from_json


@dataclass(frozen=True)
class Preprocessing:
    """What was done to RGB images, scaled to [0, 1], before the network saw them.

    Attributes:
        mean, std: of each channel: the input is (image - mean) / std.
        interpolation: `bilinear` or `bicubic`; None: it differs between weights of the same names.
        crop_fraction: share of the shorter side that the centre crop keeps; None: likewise.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str | None = None
    crop_fraction: float | None = None

    def __str__(self) -> str:
        how = "" if self.interpolation is None else f", {self.interpolation}"
        crop = "" if self.crop_fraction is None else f", crop fraction {self.crop_fraction:g}"
        mean, std = (" ".join(f"{v:g}" for v in values) for values in (self.mean, self.std))
        return f"mean {mean}, std {std}{how}{crop}"


def to_text(preprocessing: Preprocessing | None) -> str:
    """For the metadata of a file; `from_text` is the inverse."""
    return json.dumps(None if preprocessing is None else dataclasses.asdict(preprocessing))


def from_text(text: str) -> Preprocessing | None:
    """The inverse of `to_text`.

    Raises:
        ValueError, TypeError: it is something else.
    """
    fields = from_json(text)
    return None if fields is None else _preprocessing(**fields)


def from_hub(config: Mapping[str, Any]) -> Preprocessing | None:
    """What a JSON file of a hub repository says: timm's config.json or transformers' preprocessor_config.json.

    Returns:
        None where it says nothing, as a config.json of transformers.

    Raises:
        ValueError, TypeError: its values are no numbers.
    """
    if "image_mean" in config and "image_std" in config:
        how = {2: "bilinear", 3: "bicubic"}.get(config.get("resample", 0))
        crop = config.get("crop_pct")
        return _preprocessing(config["image_mean"], config["image_std"], how, crop)
    timm = config.get("pretrained_cfg", config)
    if "mean" in timm and "std" in timm:
        how, crop = timm.get("interpolation"), timm.get("crop_pct")
        return _preprocessing(timm["mean"], timm["std"], how, crop)
    return None


def _preprocessing(mean: Any, std: Any, interpolation: Any, crop_fraction: Any) -> Preprocessing:
    return Preprocessing(
        tuple(map(float, mean)),
        tuple(map(float, std)),
        interpolation if interpolation in ("bilinear", "bicubic") else None,
        None if crop_fraction is None else float(crop_fraction),
    )


IMAGENET = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
HALF = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

# Naming → what is usual for ImageNet weights under these names. Interpolation and crop cannot be
# told from names: torchvision resizes bilinearly, timm by bicubic interpolation for most weights,
# and the crops are 0.875, 0.95, 0.965 and 1.
USUAL: dict[str, Preprocessing] = {
    "torchvision": IMAGENET,
    "timm_resnetv2": HALF,
    "transformers_resnet": IMAGENET,
    "transformers_bit": HALF,
}


def usual_preprocessing(naming: str, model: ResNet) -> Preprocessing | None:
    """What is usual for weights of this naming in such a network; None: nothing is.

    Code for CIFAR computes its own constants or has none, and has the names of torchvision.

    Args:
        naming: a key of `namings.NAMINGS`.
        model: the network; may be abstract.
    """
    of_images = model.in_channels == 3 and not isinstance(model.stem, STEMS["cifar"])
    return USUAL.get(naming) if of_images else None
