"""Decoding: the bytes of an image file become uint8 pixels, whatever its format and colours.

JPEG files, which most data sets consist of, are decoded by libjpeg-turbo through simplejpeg, at a
reduced size where that is enough; all other formats, and JPEG files that are not plain colour ones,
by Pillow, which also has the last word on what is damaged.
"""

import contextlib
import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import simplejpeg
from PIL import ExifTags, Image

# The scaled inverse DCT of JPEG has these and no larger ones.
LARGEST_JPEG_REDUCTION = 8
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
# What Pillow and the libraries below it raise where a file is damaged.
_DAMAGE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    IndexError,
    KeyError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


class DamagedImageError(Exception):
    """An image that cannot be read; says which one and why."""

    def __init__(self, name: str, problem: str) -> None:
        self.name, self.problem = name, " ".join(problem.split())
        super().__init__(f"{name}: {self.problem}")

    def __reduce__(self) -> tuple[Any, ...]:
        return DamagedImageError, (self.name, self.problem)


class EncodedImage:
    """An image file in memory, of which the size is known before its pixels are decoded.

    Args:
        content: of the file. Of an animation the first frame counts.
        name: for error messages.
        channels: 1 (grey), 3 (RGB; transparent pixels are laid on white) or 4 (RGBA).

    Attributes:
        shape: (height, width, channels) as it is shown, turned as its Exif data say.

    Raises:
        DamagedImageError: it is no image; later, by `pixels`, that it is damaged.
    """

    def __init__(self, content: bytes, name: str, channels: int = 3) -> None:
        self.content, self.name, self.channels = content, name, channels
        size = _plain_jpeg_size(content) if channels == 3 else None
        self._is_plain_jpeg = size is not None
        if size is None:
            with self._damage():
                size = _open(content).size[::-1]
        self._orientation = _orientation(content)
        self._upright = self._orientation == 1
        height, width = size[::-1] if self._orientation >= 5 else size
        self.shape = height, width, channels

    def pixels(self, largest_reduction: int = 1) -> tuple[np.ndarray, int]:
        """The image, each side divided by a reduction and rounded up.

        Args:
            largest_reduction: a power of two.

        Returns:
            uint8[height, width, channels], and the reduction: for upright JPEG files the largest
            that they can be decoded at, 1 for others.
        """
        if self._is_plain_jpeg:
            # A turned image would be cut into squares from another corner.
            reduction = min(largest_reduction, LARGEST_JPEG_REDUCTION if self._upright else 1)
            smallest = [-(-side // reduction) if reduction > 1 else 0 for side in self.shape[:2]]
            with contextlib.suppress(ValueError):
                array = simplejpeg.decode_jpeg(
                    self.content, min_height=smallest[0], min_width=smallest[1]
                )
                return _turned(array, self._orientation), reduction
        with self._damage():
            image = _converted(_open(self.content), _MODES[self.channels])
            array = np.asarray(image).reshape(image.height, image.width, self.channels)
            return _turned(array, self._orientation), 1

    @contextlib.contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            yield
        except Image.UnidentifiedImageError as error:
            raise DamagedImageError(self.name, "is no image file") from error
        except _DAMAGE as error:
            raise DamagedImageError(self.name, str(error) or type(error).__name__) from error


Pixels = np.ndarray | EncodedImage


def pixels(image: Pixels) -> np.ndarray:
    """uint8[height, width, channels] of an image that may be encoded.

    Raises:
        DamagedImageError: it cannot be decoded.
    """
    return image if isinstance(image, np.ndarray) else image.pixels()[0]


def _open(content: bytes) -> Image.Image:
    with warnings.catch_warnings():
        # A large photograph is no attack here.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(io.BytesIO(content))


def _plain_jpeg_size(content: bytes) -> tuple[int, int] | None:
    """(height, width) of a grey or colour JPEG file, else None."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError:
        return None
    return (height, width) if colours in ("Gray", "YCbCr", "RGB") else None


def _orientation(content: bytes) -> int:
    """1 to 8, as Exif counts; 1 is upright."""
    # To walk the segments costs less than to open the file, and most have no such segment.
    if content[:2] == b"\xff\xd8" and not _has_exif_segment(content):
        return 1
    try:
        orientation = _open(content).getexif().get(ExifTags.Base.Orientation, 1)
    except _DAMAGE:
        return 1
    return orientation if orientation in range(1, 9) else 1


def _has_exif_segment(jpeg: bytes) -> bool:
    start = 2
    # The segments before the image are APP0 (0xE0) and on, tables and comments.
    while jpeg[start : start + 1] == b"\xff" and jpeg[start + 1 : start + 2] != b"\xda":
        if jpeg[start + 4 : start + 10] == b"Exif\0\0":
            return True
        start += 2 + int.from_bytes(jpeg[start + 2 : start + 4])
    return False


def _turned(array: np.ndarray, orientation: int) -> np.ndarray:
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array if orientation == 1 else np.ascontiguousarray(array)


def _converted(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):
        # 16 bits a pixel; Pillow would clip them to 8.
        image = Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
    if mode != "RGBA" and image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)
