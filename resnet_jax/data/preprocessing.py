"""What happens to a batch of uint8 images inside the compiled step."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from resnet_jax import random_streams
from resnet_jax.config import Config, DataConfig
from resnet_jax.data.augment import FILLS, Augmentation
from resnet_jax.data.colour import ColourJitter, pca_noise
from resnet_jax.data.mixing import Mixing
from resnet_jax.data.policies import RandAugment, TrivialAugmentWide
from resnet_jax.errors import UserError, choose

Batch = dict[str, jax.Array]
Distortion = Callable[[jax.Array, jax.Array], jax.Array]

# Streams within `random_streams.COLOUR`, a number for each use, so that none depends on the others.
# A resumed run would draw other numbers if one changed.
POLICY = 0
JITTER = 1
PCA_NOISE = 3


@dataclass(frozen=True)
class Preprocessing:
    """What happens to uint8 images inside the compiled step.

    Attributes:
        mean, std: per channel, pixel values scaled to 0 to 1.
        augmentation: of normalised training images.
        distortions: before it, functions of a key and one uint8 image, in turn, each with the number
            of its random stream.
        pca_noise: deviation of a random shift of the colours; 0: none.
        mixing: of pairs of augmented images; None: none.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Augmentation
    distortions: tuple[tuple[int, Distortion], ...] = ()
    pca_noise: float = 0.0
    mixing: Mixing | None = None

    def normalise(self, images: jax.Array) -> jax.Array:
        """uint8[batch, height, width, channels] → float32, mean 0 and deviation 1 a channel."""
        mean, std = 255 * np.array(self.mean, np.float32), 255 * np.array(self.std, np.float32)
        return (images.astype(jnp.float32) - mean) / std

    def train_batch(
        self,
        images: jax.Array,
        labels: jax.Array,
        key: jax.Array,
        step: jax.Array,
        batch_size: int,
        positions: jax.Array,
    ) -> Batch:
        """Normalise, augment and mix (a device's share of) the batch of a step.

        Args:
            images: uint8[share, height, width, channels].
            labels: int32[share].
            key: of the run (`random_streams.run_key`).
            step: int32 scalar.
            batch_size: of the whole batch.
            positions: int32[share], place of each example in the whole batch.

        Returns:
            `image` float32[share, …], `label`, `mask` bool[share], `key` key[share]; where images are
            mixed also `other_label` int32[share] and its share, `weight` float32[share].
        """

        def keys(stream: int) -> jax.Array:
            of_step = random_streams.stream_key(key, stream, step)
            return jax.random.split(of_step, batch_size)[positions]

        normalised = self._distorted(lambda: keys(random_streams.COLOUR), images)
        batch = {
            "image": self.augmentation(keys(random_streams.AUGMENT), normalised),
            "label": labels,
            "mask": jnp.ones(labels.shape, bool),
            "key": keys(random_streams.DROPOUT),
        }
        if self.mixing:
            mixed = self.mixing(keys(random_streams.MIX), batch["image"], labels)
            batch |= dict(zip(("image", "other_label", "weight"), mixed, strict=True))
        return batch

    def _distorted(self, keys: Callable[[], jax.Array], images: jax.Array) -> jax.Array:
        """Distorted and normalised images; the keys are drawn only if needed."""
        for stream, distort in self.distortions:
            images = jax.vmap(distort)(_fold(keys(), stream), images)
        normalised = self.normalise(images)
        if not self.pca_noise:
            return normalised
        shifts = jax.vmap(pca_noise, (0, None))(_fold(keys(), PCA_NOISE), self.pca_noise)
        return normalised + (shifts / np.array(self.std, np.float32))[:, None, None]


def _fold(keys: jax.Array, stream: int) -> jax.Array:
    return jax.vmap(jax.random.fold_in, (0, None))(keys, stream)


def _rand_augment(data: DataConfig, mean: tuple[float, ...]) -> Distortion:
    return RandAugment(
        fill=tuple(round(255 * value) for value in mean),
        layers=data.rand_augment_layers,
        magnitude=data.rand_augment_magnitude,
        deviation=data.rand_augment_deviation,
        probability=data.rand_augment_probability,
    )


POLICIES: dict[str, Callable[[DataConfig, tuple[float, ...]], Distortion | None]] = {
    "none": lambda data, mean: None,
    "rand_augment": _rand_augment,
    "trivial_augment_wide": lambda data, mean: TrivialAugmentWide(),
}


def make_mixing(config: Config) -> Mixing | None:
    """The mixtures of a config; None: there are none."""
    train = config.train
    if not (train.mixup or train.cutmix):
        return None
    return Mixing(train.mixup, train.cutmix, config.data.repeats)


def make_preprocessing(
    config: Config, mean: tuple[float, ...], std: tuple[float, ...]
) -> Preprocessing:
    """The preprocessing of a config.

    Args:
        config: the whole config.
        mean, std: of the training images, per channel.

    Raises:
        UserError: a choice that does not exist, or an augmentation that the images cannot have.
    """
    data = config.data
    jitter = ColourJitter(data.brightness, data.contrast, data.saturation, data.hue)
    policy = choose("data.policy", data.policy, POLICIES)(data, mean)
    if data.pca_noise and len(mean) != 3:
        raise UserError("data.pca_noise", data.pca_noise, "needs images of three colours")
    choose("data.erase_fill", data.erase_fill, FILLS)
    distortions = [(JITTER, jitter)] if jitter != ColourJitter() else []
    return Preprocessing(
        mean,
        std,
        Augmentation(data.pad, data.flip, data.cutout, data.erase, data.erase_fill),
        tuple(distortions) + (((POLICY, policy),) if policy else ()),
        data.pca_noise,
        make_mixing(config),
    )
