"""Host-side image geometry: what makes every image of a data set the same size."""

import numpy as np
from PIL import Image


def _to_pil(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def _to_array(image: Image.Image, channels: int) -> np.ndarray:
    array = np.asarray(image, np.uint8)
    return array.reshape(*array.shape[:2], channels)


def centre_crop(image: np.ndarray, size: int, fraction: float = 1.0) -> np.ndarray:
    """Resize the shorter side to `size / fraction`, then cut the centre.

    Args:
        image: uint8[height, width, channels] with 1 or 3 channels.
        size: height and width of the result, pixels.
        fraction: share of the shorter side that is kept (0.875 is usual for ImageNet).

    Returns:
        uint8[size, size, channels].
    """
    height, width, channels = image.shape
    shorter = round(size / fraction)
    if min(height, width) != shorter:
        scale = shorter / min(height, width)
        height, width = max(size, round(height * scale)), max(size, round(width * scale))
        image = _to_array(
            _to_pil(image).resize((width, height), Image.Resampling.BILINEAR), channels
        )
    top, left = (height - size) // 2, (width - size) // 2
    return image[top : top + size, left : left + size]


def random_resized_crop(image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Resize a random part of the image (Szegedy et al. 2015, "Going Deeper with Convolutions", §6).

    The part has 8% to 100% of the area and an aspect ratio from 3/4 to 4/3; where ten draws do not
    fit into the image, its centre is taken.

    Args:
        image: uint8[height, width, channels] with 1 or 3 channels.
        size: height and width of the result, pixels.
        rng: source of the crop.

    Returns:
        uint8[size, size, channels].
    """
    height, width, channels = image.shape
    for _ in range(10):
        area = height * width * rng.uniform(0.08, 1.0)
        aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        w, h = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = rng.integers(width - w + 1), rng.integers(height - h + 1)
            box = (left, top, left + w, top + h)
            crop = _to_pil(image).resize((size, size), Image.Resampling.BILINEAR, box=box)
            return _to_array(crop, channels)
    return centre_crop(image, size)
