"""Mixup and cutmix: each image of a batch is mixed with its neighbour.

Positions 2k and 2k + 1 of the shuffled batch are each other's partners, so that no device needs
another's images and the result is the same on any number of devices. Where a batch has each image
several times in a row, partners stand further apart. Each image draws a share of its own (timm's
`elem` mode); its target is the same mixture of the two labels.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp


def symmetric_beta(key: jax.Array, alpha: float) -> jax.Array:
    """A float32 scalar ~ Beta(α, α), of a λ or as well of 1 - λ.

    Without the rejection loop of `jax.random.beta`, whose end the devices would have to agree on.
    Ulrich's formula gives B ~ Beta(α + 1, α + 1) of two uniform variates (Devroye 1986, "Non-Uniform
    Random Variate Generation", IX.3). As Gamma(α) is Gamma(α + 1) U^(1/α), two more turn it into
    Beta(α, α); by the logit, so that small α lose no digits.
    """
    radius_key, angle_key, power_key = jax.random.split(key, 3)
    radius = jnp.sqrt(1 - jax.random.uniform(radius_key) ** (2 / (2 * alpha + 1)))
    larger = (1 + radius * jnp.cos(2 * jnp.pi * jax.random.uniform(angle_key))) / 2
    first, second = jax.random.exponential(power_key, (2,))
    logit = jnp.log(larger) - jnp.log1p(-larger) + (first - second) / alpha
    return jax.nn.sigmoid(logit).astype(jnp.float32)


def mixup(
    key: jax.Array, image: jax.Array, partner: jax.Array, alpha: float
) -> tuple[jax.Array, jax.Array]:
    """λ image + (1 - λ) partner with λ ~ Beta(α, α), and 1 - λ (Zhang et al. 2018, "mixup", §2)."""
    share = symmetric_beta(key, alpha)
    return image + share.astype(image.dtype) * (partner - image), share


def cutmix(
    key: jax.Array, image: jax.Array, partner: jax.Array, alpha: float
) -> tuple[jax.Array, jax.Array]:
    """A box of the partner in the image, and its share of the pixels (Yun et al. 2019, "CutMix", §3.1).

    Before it is cut at the edges the box has the area 1 - λ, λ ~ Beta(α, α).
    """
    area_key, box_key = jax.random.split(key)
    area = symmetric_beta(area_key, alpha)
    inside = box_mask(box_key, image.shape, area)
    return jnp.where(inside, partner, image), inside.mean(dtype=jnp.float32)


def box_mask(key: jax.Array, shape: tuple[int, ...], area: jax.Array) -> jax.Array:
    """A random box with the aspect ratio of the image.

    Its centre is uniform over the image, so a part of the box may fall outside.

    Args:
        key: of this image.
        shape: (height, width, channels).
        area: of the box as a share of the image, before it is cut at the edges.

    Returns:
        bool[height, width, 1], True inside.
    """
    row_key, column_key = jax.random.split(key)
    row = _interval(row_key, shape[0], area)
    column = _interval(column_key, shape[1], area)
    return (row[:, None] & column[None, :])[..., None]


def _interval(key: jax.Array, length: int, area: jax.Array) -> jax.Array:
    size = jnp.floor(length * jnp.sqrt(area)).astype(jnp.int32)
    start = jax.random.randint(key, (), 0, length) - size // 2
    places = jnp.arange(length)
    return (places >= start) & (places < start + size)


@dataclass(frozen=True)
class Mixing:
    """Which mixtures; where both are on, each has probability 1/2 for each image.

    Attributes:
        mixup, cutmix: α of each; 0: none.
        repeats: times in a row that a batch has each image.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    repeats: int = 1

    @property
    def group(self) -> int:
        """Positions among which partners are found.

        Partners are half as far apart, a power of 2 that is no less than `repeats`, so that they show
        different images and common batch sizes are multiples of it.
        """
        return 2 << (self.repeats - 1).bit_length()

    def __call__(
        self, keys: jax.Array, images: jax.Array, labels: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Mix a batch, or a part of it that begins and ends at a multiple of `group`.

        Args:
            keys: one key an image, [batch].
            images: float[batch, height, width, channels].
            labels: int32[batch].

        Returns:
            The mixed images, the partners' labels int32[batch], and the share float32[batch] that
            they have. For cutmix it is the share of pixels, also where the box is cut at an edge.
        """
        mixed, shares = jax.vmap(self._one)(keys, images, self._partners(images))
        return mixed, self._partners(labels), shares

    def _one(
        self, key: jax.Array, image: jax.Array, partner: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        which_key, mixup_key, cutmix_key = jax.random.split(key, 3)
        if not self.cutmix:
            return mixup(mixup_key, image, partner, self.mixup)
        if not self.mixup:
            return cutmix(cutmix_key, image, partner, self.cutmix)
        return jax.tree.map(
            partial(jnp.where, jax.random.bernoulli(which_key)),
            mixup(mixup_key, image, partner, self.mixup),
            cutmix(cutmix_key, image, partner, self.cutmix),
        )

    def _partners(self, array: jax.Array) -> jax.Array:
        """What stands at the other position of each pair; first axis: batch."""
        pairs = array.reshape(-1, 2, self.group // 2, *array.shape[1:])
        return pairs[:, ::-1].reshape(array.shape)
