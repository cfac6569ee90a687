"""Logits averaged over ten crops of each image."""

import jax
import jax.numpy as jnp

from resnet_jax.models.resnet import ResNet


def ten_crops(images: jax.Array, size: int) -> list[jax.Array]:
    """The corners, the centre, and their mirror images (Krizhevsky et al. 2012, §4.1).

    Args:
        images: float[batch, height, width, channels], at least `size` pixels a side.
        size: height and width of a crop, pixels.
    """
    bottom, right = (side - size for side in images.shape[1:3])
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    crops = [images[:, top : top + size, left : left + size] for top, left in corners]
    return crops + [crop[:, :, ::-1] for crop in crops]


def ten_crop_logits(
    model: ResNet,
    images: jax.Array,
    size: int,
    survival_probability: jax.Array | None = None,
) -> jax.Array:
    """Logits averaged over `ten_crops`; the paper averages probabilities.

    Args:
        model: in eval mode.
        images: float[batch, height, width, channels], normalised.
        size: of a crop, pixels.
        survival_probability: as of `ResNet.features`.

    Returns:
        float32[batch, num_classes].
    """
    total = jnp.zeros(())
    for crop in ten_crops(images, size):
        total += model(crop, survival_probability=survival_probability)
    return total / 10
