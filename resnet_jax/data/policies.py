"""Random policies over a fixed set of operations: RandAugment and TrivialAugment.

An image's operation is two numbers, which one and by how much. Each image takes the same three
passes, a resampling, a table of values and a blend, and its operation decides which of them changes
anything: one compiled function for a batch, where a branch for each operation would compute them all.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from resnet_jax.data import colour, geometry

AFFINE = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
TABLES = ("autocontrast", "equalize", "invert", "posterize", "solarize", "solarize_add")
BLENDS = ("brightness", "contrast", "saturation", "sharpness")
OPERATIONS = ("identity", *AFFINE, *TABLES, *BLENDS)


def apply(image: jax.Array, operation: jax.Array, amount: jax.Array, fill: jax.Array) -> jax.Array:
    """One operation on one image.

    Args:
        image: uint8[height, width, channels].
        operation: int32 scalar, an index of `OPERATIONS`.
        amount: float32 scalar: slope of a shear, pixels of a translation, degrees of a rotation,
            bits that `posterize` keeps, threshold of `solarize`, addend of `solarize_add`, factor of
            a blend; the others take none.
        fill: uint8[channels], of pixels that an affine operation brings in.
    """
    image = geometry.resample(image, _matrix(operation, amount, image.shape), fill)
    image = colour.look_up(image, _table(operation, amount, colour.histogram(image)))
    degenerate = _select(
        operation,
        {
            "brightness": jnp.int32(0),
            "contrast": colour.mean_grey(image),
            "saturation": colour.grey(image),
            "sharpness": colour.smooth(image),
        },
        image.astype(jnp.int32),
    )
    return colour.blend(image, degenerate, amount)


def _select(operation: jax.Array, choices: Mapping[str, jax.Array], other: jax.Array) -> jax.Array:
    """The choice of the operation, or `other` where it has none."""
    for name, choice in choices.items():
        other = jnp.where(operation == OPERATIONS.index(name), choice, other)
    return other


def _matrix(operation: jax.Array, amount: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    matrices = {
        "shear_x": geometry.shear_x(amount),
        "shear_y": geometry.shear_y(amount),
        "translate_x": geometry.translate_x(amount),
        "translate_y": geometry.translate_y(amount),
        "rotate": geometry.rotate(amount, *shape[:2]),
    }
    return _select(operation, matrices, geometry.identity())


def _table(operation: jax.Array, amount: jax.Array, counts: jax.Array) -> jax.Array:
    tables = {
        "autocontrast": colour.autocontrast(counts),
        "equalize": colour.equalize(counts),
        "invert": colour.invert(),
        "posterize": colour.posterize(jnp.clip(amount, 0, 8)),
        "solarize": colour.solarize(amount),
        "solarize_add": colour.solarize_add(amount),
    }
    stacked = jnp.stack([jnp.broadcast_to(table, counts.shape) for table in tables.values()])
    is_it = operation == np.array([OPERATIONS.index(name) for name in tables])
    # Chosen by a product, it is computed once; by `where`, XLA would compute it for every pixel.
    chosen = jnp.einsum("k,kvc->vc", is_it.astype(jnp.float32), stacked.astype(jnp.float32))
    return jnp.where(is_it.any(), chosen, colour.VALUES)


def _draw(key: jax.Array, amounts: Mapping[str, jax.Array | float]) -> tuple[jax.Array, jax.Array]:
    """One of the operations with equal probability, and its amount."""
    which = jax.random.randint(key, (), 0, len(amounts))
    operations = np.array([OPERATIONS.index(name) for name in amounts], np.int32)
    values = jnp.stack([jnp.asarray(value, jnp.float32) for value in amounts.values()])
    return jnp.asarray(operations)[which], values[which]


def _sign(key: jax.Array) -> jax.Array:
    return jax.random.rademacher(key, (), jnp.float32)


@dataclass(frozen=True)
class RandAugment:
    """Several operations in turn, all of one magnitude (Cubuk et al. 2020, "RandAugment").

    Operations and ranges are those of timm with increasing severity, `rand-m7-mstd0.5-inc1` and the
    like, which *ResNet strikes back* trains by. Interpolation is bilinear.

    Attributes:
        fill: of pixels brought in, a value from 0 to 255 a channel.
        layers: operations in turn, drawn with replacement.
        magnitude: 0 to 10.
        deviation: of a normal variate added to the magnitude of each operation.
        probability: that an operation drawn is applied.
    """

    fill: tuple[int, ...]
    layers: int = 2
    magnitude: float = 9.0
    deviation: float = 0.0
    probability: float = 1.0

    def __call__(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """Augment uint8[height, width, channels] by the key of this image."""
        keys = jax.random.split(key, self.layers)
        operations, amounts = jax.vmap(lambda key: self.draw(key, image.shape))(keys)

        def layer(image: jax.Array, drawn: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            return apply(image, *drawn, jnp.array(self.fill, jnp.uint8)), None

        return jax.lax.scan(layer, image, (operations, amounts))[0]

    def draw(self, key: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
        """The operation of a layer and its amount, for images of a shape."""
        height, width, _ = shape
        which_key, size_key, sign_key, skip_key = jax.random.split(key, 4)
        noise = self.deviation * jax.random.normal(size_key)
        level = jnp.clip(self.magnitude + noise, 0, 10) / 10
        signed = level * _sign(sign_key)
        factor = jnp.maximum(1 + 0.9 * signed, 0.1)
        operation, amount = _draw(
            which_key,
            {
                "autocontrast": 0,
                "equalize": 0,
                "invert": 0,
                "rotate": 30 * signed,
                "posterize": 4 - jnp.floor(4 * level),
                "solarize": 256 - jnp.floor(256 * level),
                "solarize_add": jnp.floor(110 * level),
                "saturation": factor,
                "contrast": factor,
                "brightness": factor,
                "sharpness": factor,
                "shear_x": 0.3 * signed,
                "shear_y": 0.3 * signed,
                "translate_x": 0.45 * width * signed,
                "translate_y": 0.45 * height * signed,
            },
        )
        applied = jax.random.bernoulli(skip_key, self.probability)
        return jnp.where(applied, operation, OPERATIONS.index("identity")), amount


@dataclass(frozen=True)
class TrivialAugmentWide:
    """One operation of random magnitude (Müller & Hutter 2021, "TrivialAugment", the wide space).

    Magnitudes are 31 even steps, as in the paper and in torchvision. Interpolation is bilinear and
    pixels brought in are black.
    """

    def __call__(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """Augment uint8[height, width, channels] by the key of this image."""
        return apply(image, *self.draw(key), jnp.zeros(image.shape[-1], jnp.uint8))

    def draw(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The operation and its amount."""
        which_key, size_key, sign_key = jax.random.split(key, 3)
        step = jax.random.randint(size_key, (), 0, 31)
        level, sign = step / 30, _sign(sign_key)
        pixels = 32 * step // 30 * sign
        factor = 1 + 0.99 * level * sign
        return _draw(
            which_key,
            {
                "identity": 0,
                "shear_x": 0.99 * level * sign,
                "shear_y": 0.99 * level * sign,
                "translate_x": pixels,
                "translate_y": pixels,
                "rotate": 135 * level * sign,
                "brightness": factor,
                "saturation": factor,
                "contrast": factor,
                "sharpness": factor,
                "posterize": 8 - (step + 2) // 5,
                "solarize": 255 - 8.5 * step,
                "autocontrast": 0,
                "equalize": 0,
            },
        )
