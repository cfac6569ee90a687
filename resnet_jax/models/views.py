"""Several views of one image, crops or sizes, over which logits are averaged."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Views = Callable[[jax.Array], list[jax.Array]]


def one_view(images: jax.Array) -> list[jax.Array]:
    """The images themselves, as one view."""
    return [images]


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


def rescaled(images: jax.Array, sizes: Sequence[int], method: str = "bilinear") -> list[jax.Array]:
    """The images at several sizes (He 2015, §3.4).

    Args:
        images: float[batch, height, width, channels].
        sizes: shorter sides in pixels; the paper's are 224, 256, 384, 480 and 640.
        method: of `jax.image.resize`.
    """
    batch, height, width, channels = images.shape
    views = []
    for size in sizes:
        scale = size / min(height, width)
        shape = (batch, round(height * scale), round(width * scale), channels)
        views.append(jax.image.resize(images, shape, method))
    return views


def mean_over_views(function: Callable[[jax.Array], Any], views: Sequence[jax.Array]) -> Any:
    """The mean of what a function returns for several views of the same images.

    Args:
        function: from float[batch, height, width, channels] to a pytree of float arrays.
        views: crops or sizes, as evaluation averages over.
    """
    first, *others = views
    total = function(first)
    if not others:
        return total
    if {view.shape for view in others} == {first.shape}:
        # One loop compiles the function once for all crops.
        def add(total: Any, view: jax.Array) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, function(view)), None

        total, _ = lax.scan(add, total, jnp.concatenate([view[None] for view in others]))
    else:
        for view in others:
            total = jax.tree.map(jnp.add, total, function(view))
    return jax.tree.map(lambda leaf: leaf / len(views), total)


def ten_crop_logits(
    model: Callable[[jax.Array], jax.Array], images: jax.Array, size: int
) -> jax.Array:
    """`mean_over_views` of `ten_crops`; the paper averages probabilities.

    Args:
        model: in eval mode.
        images: float[batch, height, width, channels], normalised.
        size: of a crop, pixels.
    """
    return mean_over_views(model, ten_crops(images, size))


def multi_scale_logits(
    model: Callable[[jax.Array], jax.Array],
    images: jax.Array,
    sizes: Sequence[int],
    method: str = "bilinear",
) -> jax.Array:
    """`mean_over_views` of `rescaled`: averaged over the positions and over several sizes.

    Args:
        model: in eval mode.
        images: float[batch, height, width, channels], normalised.
        sizes, method: as of `rescaled`.
    """
    return mean_over_views(model, rescaled(images, sizes, method))
