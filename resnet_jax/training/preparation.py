"""How an image becomes what the network sees: resized, cropped, normalised.

The constants belong to the weights. They are chosen once, when a run starts, and data.json keeps them:
whatever reads the run later takes them from there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax

from resnet_jax.config import Config
from resnet_jax.data.images import Geometry
from resnet_jax.errors import UserError
from resnet_jax.interop.preprocessing import Preprocessing
from resnet_jax.models import one_view, rescaled, ten_crops

DEFAULT_INTERPOLATION = "bilinear"
Channels = tuple[float, ...]


class Preparation(NamedTuple):
    """The constants.

    Attributes:
        mean, std: one number a channel, for pixel values from 0 to 1; None: those of the training
            images are measured.
        interpolation: a key of `data.images.INTERPOLATIONS`.
    """

    mean: Channels | None = None
    std: Channels | None = None
    interpolation: str = DEFAULT_INTERPOLATION


def stored(facts: Mapping[str, Any]) -> Preparation:
    """The constants of a run, from its data.json."""
    interpolation = facts.get("interpolation", DEFAULT_INTERPOLATION)
    return Preparation(tuple(facts["mean"]), tuple(facts["std"]), interpolation)


def preprocessing_of(facts: Mapping[str, Any]) -> Preprocessing:
    """The constants of a run, as files of weights carry them."""
    mean, std = tuple(facts["mean"]), tuple(facts["std"])
    return Preprocessing(mean, std, stored(facts).interpolation)


def chosen(config: Config, of_weights: Preprocessing | None, channels: int) -> Preparation:
    """The constants of a run that starts.

    Args:
        config: its `data` section comes first.
        of_weights: those of the weights that it starts from; None: unknown, or fresh weights.
        channels: of the images.

    Raises:
        UserError: another number of constants than channels, or one of mean and std without the other.
    """
    data = config.data
    interpolation = data.interpolation or (of_weights and of_weights.interpolation)
    interpolation = interpolation or DEFAULT_INTERPOLATION
    mean, std = data.mean, data.std
    for name, value in (("data.mean", mean), ("data.std", std)):
        if value is None and (mean, std) != (None, None):
            raise UserError(name, None, "data.mean and data.std go together", "set both or none")
        if value is not None and len(value) != channels:
            raise UserError(name, tuple(value), f"the images have {channels} channels", "one each")
    if mean is not None and std is not None:
        return Preparation(mean, std, interpolation)
    if of_weights is not None and len(of_weights.mean) == channels:
        return Preparation(of_weights.mean, of_weights.std, interpolation)
    return Preparation(interpolation=interpolation)


def train_geometry(config: Config, interpolation: str) -> Geometry:
    """Geometry of training images, where crops are not random."""
    return Geometry(config.data.image_size, config.data.crop_fraction, interpolation)


@dataclass(frozen=True)
class EvaluatedImage:
    """What evaluation makes of an image; `evaluate`, `analyze` and `export` share it.

    Attributes:
        geometry: of the images that are read. For ten crops it is the square that they are cut from.
        scales: shorter sides in pixels at which the network sees the image; empty: as it is read.
        crop_size: of ten crops, in pixels; None: there are none.
    """

    geometry: Geometry
    scales: tuple[int, ...] = ()
    crop_size: int | None = None

    def views(self, images: jax.Array) -> list[jax.Array]:
        """The views over which logits are averaged, of float[batch, height, width, channels]."""
        if self.crop_size is not None:
            return ten_crops(images, self.crop_size)
        return rescaled(images, self.scales) if self.scales else one_view(images)


def evaluated_image(config: Config, interpolation: str, averages: bool = True) -> EvaluatedImage:
    """What evaluation makes of an image, by the config's `data` and `evaluate` sections.

    Args:
        config: the whole config.
        interpolation: a key of `data.images.INTERPOLATIONS`.
        averages: over crops or scales, as the config says; else one view, for what looks into a network.

    Raises:
        UserError: ten crops with several scales, without a size, or with one place to cut from.
    """
    evaluate, data = config.evaluate, config.data
    size = evaluate.image_size or data.image_size
    fraction = evaluate.crop_fraction or data.crop_fraction
    if not averages:
        return EvaluatedImage(Geometry(size, fraction, interpolation))
    if evaluate.crops == 1:
        # Made smaller on the host first, an image would be enlarged again.
        if evaluate.scales and evaluate.image_size is None and size is not None:
            size = max(evaluate.scales)
        return EvaluatedImage(Geometry(size, fraction, interpolation), tuple(evaluate.scales))
    if evaluate.scales:
        raise UserError("evaluate.crops", evaluate.crops, "does not go with evaluate.scales")
    if size is None:
        problem = "evaluate.crops needs it"
        raise UserError("evaluate.image_size", None, problem, "set the size of a crop in pixels")
    square = round(size / fraction)
    if square == size:
        problem = "leaves evaluate.crops one place to cut from"
        raise UserError("evaluate.crop_fraction", fraction, problem, "set it to 0.875, say")
    return EvaluatedImage(Geometry(square, 1.0, interpolation), crop_size=size)
