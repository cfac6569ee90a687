"""Host-side image geometry: what makes every image of a data set the same size.

Both crops choose a box from the size of the image alone.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from resnet_jax.data.decoding import EncodedImage, Pixels, pixels
from resnet_jax.errors import UserError, choose

# The pipeline has threads of its own, an image each.
cv2.setNumThreads(1)
# Longer side of the images that are resized as a whole before a crop, as a multiple of the shorter.
LONGEST = 8
_LOG_ASPECTS = np.log(3 / 4), np.log(4 / 3)
# (left, top, right, bottom).
Box = tuple[int, int, int, int]

INTERPOLATIONS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}


@dataclass(frozen=True)
class Geometry:
    """How images become squares of one size.

    Attributes:
        size: height and width in pixels; None leaves images as they are.
        crop_fraction: share of the shorter side that a centre crop keeps (0.875 is usual for
            ImageNet).
        interpolation: a key of `INTERPOLATIONS`.

    Raises:
        UserError: no such interpolation.
    """

    size: int | None
    crop_fraction: float = 1.0
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        choose("data.interpolation", self.interpolation, INTERPOLATIONS)


def sized(
    image: Pixels, geometry: Geometry, shape: tuple[int, int, int] | None = None
) -> np.ndarray:
    """The centre crop, or the whole image where the geometry has no size: uint8[height, width, channels].

    Args:
        image: uint8[height, width, channels], or encoded.
        geometry: of the result.
        shape: that a whole image must have; None: any.

    Raises:
        DamagedImageError: it cannot be decoded.
        UserError: it has another shape.
    """
    if geometry.size is not None:
        return centre_crop(image, geometry)
    if shape is not None and image.shape != shape:
        raise differing_sizes(image.shape, shape, getattr(image, "name", "one"))
    return pixels(image)


def differing_sizes(
    shape: tuple[int, ...], other: tuple[int | None, ...], name: str, source: str = "a split"
) -> UserError:
    """The error for an image called `name` that has not the shape of the others."""
    (height, width), (others_height, others_width) = shape[:2], other[:2]
    return UserError(
        "data.image_size",
        None,
        f"the images of {source} differ in size: {name} is {width}×{height} pixels and others are "
        f"{others_width}×{others_height}",
        "set it to a number of pixels",
    )


def centre_crop(image: Pixels, geometry: Geometry) -> np.ndarray:
    """Resize the shorter side to `size / crop_fraction`, then cut the centre.

    The filters are Pillow's, whose support grows with the reduction (but for `nearest`).

    Args:
        image: uint8[height, width, channels] with 1 or 3 channels, or encoded.
        geometry: with a size.

    Returns:
        uint8[size, size, channels].

    Raises:
        DamagedImageError: it cannot be decoded.
    """
    height, width, _ = image.shape
    size = _size(geometry)
    shorter = round(size / geometry.crop_fraction)
    scale = shorter / min(height, width)
    # Sides of the whole image, were it resized.
    rows, columns = max(size, round(height * scale)), max(size, round(width * scale))
    top, left = (rows - size) // 2, (columns - size) // 2
    array = pixels(image)
    resizes = min(height, width) != shorter
    if resizes and max(rows, columns) > LONGEST * shorter:
        # A ribbon as a whole might not fit into memory; rounding differs, by up to two levels.
        y, x = height / rows, width / columns
        box = left * x, top * y, min((left + size) * x, width), min((top + size) * y, height)
        return _by_pillow(array, size, size, geometry.interpolation, box)
    if resizes:
        array = _by_pillow(array, rows, columns, geometry.interpolation)
    return array[top : top + size, left : left + size]


def random_resized_crop(image: Pixels, geometry: Geometry, rng: np.random.Generator) -> np.ndarray:
    """Resize a random part of the image (Szegedy et al. 2015, "Going Deeper with Convolutions", §6).

    The part has 8% to 100% of the area and an aspect ratio from 3/4 to 4/3; where ten draws do not
    fit into the image, its centre is taken.

    Args:
        image: uint8[height, width, channels] with 1 or 3 channels, or encoded.
        geometry: with a size; its crop fraction does not count.
        rng: source of the crop.

    Returns:
        uint8[size, size, channels].

    Raises:
        DamagedImageError: it cannot be decoded.
    """
    height, width, channels = image.shape
    size, interpolation = _size(geometry), geometry.interpolation
    box = _draw_box(height, width, rng)
    if box is None:
        return centre_crop(image, Geometry(size, 1.0, interpolation))
    if interpolation != "bilinear":
        return _by_pillow(_part(pixels(image), box), size, size, interpolation)
    if isinstance(image, EncodedImage):
        return _bilinear_crop(image, box, size).reshape(size, size, channels)
    return _bilinear(_part(image, box), size).reshape(size, size, channels)


def _bilinear_crop(image: EncodedImage, box: Box, size: int) -> np.ndarray:
    """A part of an image file, which is decoded alone or at a reduced size where that can be."""
    left, top, right, bottom = box
    # The mean of squares, which a reduced JPEG file shows, is close to the bilinear filter only.
    largest = 2 ** max(0, int(math.log2(min(right - left, bottom - top) / size)))
    left, top, right, bottom = part = _reduced(box, reduction := image.reduction(largest))
    # From there on `_bilinear` has another filter.
    if min(right - left, bottom - top) < 2 * size:
        crop = image.crop(part, reduction, size)
        if crop is not None:
            return crop
    array, reduction = image.pixels(largest)
    return _bilinear(_part(array, _reduced(box, reduction)), size)


def _reduced(box: Box, reduction: int) -> Box:
    left, top, right, bottom = box
    return left // reduction, top // reduction, -(-right // reduction), -(-bottom // reduction)


def _part(image: np.ndarray, box: Box) -> np.ndarray:
    left, top, right, bottom = box
    return image[top:bottom, left:right]


def _size(geometry: Geometry) -> int:
    if geometry.size is None:
        raise ValueError("a crop needs a size")
    return geometry.size


def _draw_box(height: int, width: int, rng: np.random.Generator) -> Box | None:
    """A random part, or None where ten draws do not fit."""
    for _ in range(10):
        area = height * width * rng.uniform(0.08, 1.0)
        aspect = np.exp(rng.uniform(*_LOG_ASPECTS))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    return None


def _bilinear(image: np.ndarray, size: int) -> np.ndarray:
    """Bilinear and antialiased.

    Pillow's filter is a triangle that reaches `ratio` pixels to each side where the image shrinks by
    that ratio. OpenCV, which is several times faster, has the triangle that reaches 1 pixel; up to a
    ratio of about 2 a smoothing before it brings its variance from 1/6 to the ratio² / 6 of Pillow's.
    """
    ratios = image.shape[0] / size, image.shape[1] / size
    if min(ratios) >= 2:
        return _by_pillow(image, size, size, "bilinear")
    if max(ratios) > 1:
        down, across = (_smoothing(ratio) for ratio in ratios)
        image = cv2.sepFilter2D(image, -1, across, down, borderType=cv2.BORDER_REPLICATE)
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)


def _by_pillow(
    image: np.ndarray,
    height: int,
    width: int,
    interpolation: str,
    box: tuple[float, float, float, float] | None = None,
) -> np.ndarray:
    """`box` (left, top, right, bottom) of the image, or all of it: uint8[height, width, channels]."""
    channels = image.shape[-1]
    whole = Image.fromarray(image[..., 0] if channels == 1 else image)
    resized = whole.resize((width, height), INTERPOLATIONS[interpolation], box=box)
    return np.asarray(resized, np.uint8).reshape(height, width, channels)


def _smoothing(ratio: float) -> np.ndarray:
    side = min(max(ratio**2 - 1, 0) / 12, 1 / 3)
    return np.array([side, 1 - 2 * side, side], np.float32)
