"""Decoding: the bytes of an image file become uint8 pixels, whatever its format and colours.

JPEG files, which most data sets consist of, are decoded by libjpeg-turbo through simplejpeg, at a
reduced size where that is enough; all other formats, and JPEG files that are not plain colour ones,
by Pillow, which also has the last word on what is corrupt. Where `native_jpeg/` is installed, a crop
of a JPEG file is decoded alone.
"""

import contextlib
import io
import struct
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import simplejpeg
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import PHOTOMETRIC_INTERPRETATION, TILELENGTH, TILEWIDTH, TiffImageFile

from resnet_jax.errors import printable

try:
    import resnet_jax_jpeg
except ModuleNotFoundError:
    resnet_jax_jpeg = None

# Raise it with every change after which a file may have other pixels: cached ones are then not read.
VERSION = 2

# Pixels of an image: 8,192 × 8,192. A header of a few bytes can claim billions of them.
MOST_PIXELS = 2**26
# Bytes of an image file: so many pixels of 64 bits.
LARGEST_FILE = 8 * MOST_PIXELS
# Pillow has others too, of which EPS runs another program.
FORMATS = ("JPEG", "PNG", "GIF", "PPM", "BMP", "TIFF", "WEBP", "JPEG2000", "AVIF")
# The scaled inverse DCT of JPEG has these and no larger ones.
LARGEST_JPEG_REDUCTION = 8
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
# Of a grey value, where fewer than 8 bits are scaled to 8.
_FACTORS = {"L;2": 85, "L;4": 17}
# Pillow finds an orientation after one of these only, so it need not be asked where there is none.
_JPEG, _PNG = b"\xff\xd8", b"\x89P"
_ORIENTED = {
    _JPEG: (b"Exif\0\0", b"tiff:Orientation"),
    _PNG: (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp"),
}
_SEGMENT = struct.Struct(">BBH")
# Of JPEG: what a byte 255 before it may be repeated for, the scan, and the markers without a length.
_FILL, _SCAN, _ALONE = 0xFF, 0xDA, (0x00, 0x01, *range(0xD0, 0xDA))
# `MOST_PIXELS` is the limit. Once, as `catch_warnings` is not for threads.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class DamagedImageError(Exception):
    """An image that cannot be read; says which one and why, in characters that print."""

    def __init__(self, name: str, problem: str) -> None:
        self.name, self.problem = printable(name), printable(" ".join(problem.split()))
        super().__init__(f"{self.name}: {self.problem}")

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
        DamagedImageError: it is no image or has more than `MOST_PIXELS`; by `pixels`, it is corrupt, or
            its numbers have no range that is known.
    """

    def __init__(self, content: bytes, name: str, channels: int = 3) -> None:
        self.content, self.name, self.channels = content, name, channels
        size = _plain_jpeg_size(content) if channels == 3 else None
        self._is_plain_jpeg = size is not None
        with self._damage():
            height, width = size or _size(_open(content))
            if height * width > MOST_PIXELS:
                raise Image.DecompressionBombError
            self._orientation = _orientation(content)
        self._upright = self._orientation == 1
        if self._orientation >= 5:
            height, width = width, height
        self.shape = height, width, channels

    def reduction(self, largest: int) -> int:
        """The largest one, a power of two up to `largest`, that the file can be decoded at.

        1 but for upright JPEG files: a turned image would be cut into squares from another corner.
        """
        return min(largest, LARGEST_JPEG_REDUCTION) if self._is_plain_jpeg and self._upright else 1

    def pixels(self, largest_reduction: int = 1) -> tuple[np.ndarray, int]:
        """The image, each side divided by a reduction and rounded up.

        Args:
            largest_reduction: a power of two.

        Returns:
            uint8[height, width, channels], and the reduction: that of `reduction`, or 1 where
            Pillow decodes the file.
        """
        if self._is_plain_jpeg:
            reduction = self.reduction(largest_reduction)
            smallest = [-(-side // reduction) if reduction > 1 else 0 for side in self.shape[:2]]
            with contextlib.suppress(ValueError):
                array = simplejpeg.decode_jpeg(
                    self.content, min_height=smallest[0], min_width=smallest[1]
                )
                return _turned(array, self._orientation), reduction
        with self._damage():
            image = _open(self.content)
            if problem := _unknown_range(image):
                raise DamagedImageError(self.name, problem)
            image = _converted(image, _MODES[self.channels])
            array = np.asarray(image).reshape(image.height, image.width, self.channels)
            return _turned(array, self._orientation), 1

    def crop(self, box: tuple[int, int, int, int], reduction: int, size: int) -> np.ndarray | None:
        """A part of an upright JPEG file, resized as by `images._bilinear`; the rest is not decoded.

        Args:
            box: (left, top, right, bottom) in pixels of the image divided by the reduction.
            reduction: as of `reduction`.
            size: height and width of the result.

        Returns:
            uint8[size, size, 3]; None: the whole image has to be decoded, as `native_jpeg/` is not
            installed, or the file is another one or may be corrupt, or the box has a side below 4.
        """
        if resnet_jax_jpeg is None or not (self._is_plain_jpeg and self._upright):
            return None
        left, top, right, bottom = box
        array = np.empty((size, size, 3), np.uint8)
        place = left, top, right - left, bottom - top
        return array if resnet_jax_jpeg.crop(self.content, reduction, place, size, array) else None

    @contextlib.contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            yield
        except Image.UnidentifiedImageError as error:
            problem = "is no image file of a format that is read"
            raise DamagedImageError(self.name, problem) from error
        except Image.DecompressionBombError as error:
            problem = f"has more than the {MOST_PIXELS:,} pixels that are read"
            raise DamagedImageError(self.name, problem) from error
        except DamagedImageError:
            raise
        # A corrupt file can fail in any way.
        except Exception as error:
            raise DamagedImageError(self.name, str(error) or type(error).__name__) from error


Pixels = np.ndarray | EncodedImage


def pixels(image: Pixels) -> np.ndarray:
    """uint8[height, width, channels] of an image that may be encoded.

    Raises:
        DamagedImageError: it cannot be decoded.
    """
    return image if isinstance(image, np.ndarray) else image.pixels()[0]


def _open(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content), formats=FORMATS)


def _size(image: Image.Image) -> tuple[int, int]:
    """(height, width), or that of a tile of a TIFF image where it is larger: both are decoded whole."""
    width, height = image.size
    if isinstance(image, TiffImageFile):
        tile = image.tag_v2.get(TILELENGTH, 0), image.tag_v2.get(TILEWIDTH, 0)
        if tile[0] * tile[1] > MOST_PIXELS:
            return tile
    return height, width


def _plain_jpeg_size(content: bytes) -> tuple[int, int] | None:
    """(height, width) of a grey or colour JPEG file, else None."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError:
        return None
    return (height, width) if colours in ("Gray", "YCbCr", "RGB") else None


def _orientation(content: bytes) -> int:
    """1 to 8, as Exif counts; 1 is upright."""
    kind = content[:2]
    searched = _jpeg_header(content) if kind == _JPEG else content
    if kind in _ORIENTED and not any(mark in searched for mark in _ORIENTED[kind]):
        return 1
    try:
        image = _open(content)
        # Pillow turns TIFF images itself.
        if image.format == "TIFF":
            return 1
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1
    return orientation if orientation in range(1, 9) else 1


def _jpeg_header(content: bytes) -> bytes:
    """A JPEG file up to its first scan; all of it where its segments do not follow one another."""
    at = len(_JPEG)
    while at + _SEGMENT.size <= len(content):
        mark, kind, length = _SEGMENT.unpack_from(content, at)
        if mark != _FILL or kind in _ALONE:
            break
        if kind == _SCAN:
            return content[:at]
        at += 1 if kind == _FILL else 2 + length
    return content


def _turned(array: np.ndarray, orientation: int) -> np.ndarray:
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array if orientation == 1 else np.ascontiguousarray(array)


def _unknown_range(image: Image.Image) -> str | None:
    """Why the numbers of an image cannot be scaled to 0 to 255; None: they can.

    To be asked before the pixels are loaded.
    """
    stored, transparent = _stored_as(image), image.info.get("transparency")
    if image.mode == "F":
        return "has floating-point pixels, whose range is not known; save it with 8 or 16 bits"
    # Pillow scales those of PPM to 16 bits.
    if image.mode == "I" and image.format not in ("PPM", "PNG"):
        return "has signed or 32-bit pixels, whose range is not known; save it with 8 or 16 bits"
    if stored == "I;12":
        return "has 12 bits a pixel; save it with 8 or 16"
    if isinstance(transparent, tuple) and stored.startswith("RGB;16"):
        return "has 16 bits a channel and one transparent colour; save it with an alpha channel"
    return None


def _stored_as(image: Image.Image) -> str:
    """Pillow's raw mode; empty where the decoder has none."""
    tiles = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _converted(image: Image.Image, mode: str) -> Image.Image:
    factor = _FACTORS.get(_stored_as(image), 1)
    if image.mode.startswith("I"):
        image = _eight_bits(image)
    elif image.mode == "L" and "transparency" in image.info:
        # Pillow scales the pixels and not this one.
        image.info["transparency"] *= factor
    if mode != "RGBA" and image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


def _eight_bits(image: Image.Image) -> Image.Image:
    """An image of 16 bits a pixel as one of 8, which Pillow would clip."""
    values = np.asarray(image).astype(np.int32)
    # In TIFF, 0 may be white, which Pillow heeds with 8 bits only.
    if isinstance(image, TiffImageFile) and image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == 0:
        values = 65535 - values
    grey = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    transparent = image.info.get("transparency")
    if transparent is not None:
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return grey
