"""Decoding, against the pixels that were encoded, and Pillow."""

import io
import pickle

import numpy as np
import pytest
from image_files import encoded, frames, scene, with_orientation
from PIL import Image, ImageOps

from resnet_jax.data.decoding import DamagedImageError, EncodedImage, pixels

SCENE = scene()
GREY = SCENE[..., 0]


def decoded(content, channels=3):
    image = EncodedImage(content, "file", channels)
    array = pixels(image)
    assert (array.shape, array.dtype) == (image.shape, np.uint8)
    return array.astype(int)


def assert_near(array, expected, most):
    assert array.shape == expected.shape
    assert np.abs(array - expected.astype(int)).max() <= most


@pytest.mark.parametrize(
    ("form", "options", "most"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("JPEG", {"quality": 95, "subsampling": 0}, 6),
        ("JPEG", {"quality": 95, "progressive": True, "subsampling": 0}, 6),
    ],
)
def test_formats_give_the_pixels_that_were_encoded(form, options, most):
    assert_near(decoded(encoded(SCENE, form, **options)), SCENE, most)


def test_plain_jpeg_is_what_pillow_decodes():
    content = encoded(scene(101, 67), quality=75)
    expected = np.asarray(Image.open(io.BytesIO(content)))
    np.testing.assert_array_equal(decoded(content), expected)


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_grey_becomes_three_equal_channels_or_stays_grey(form):
    content = encoded(GREY, form)
    for channels in (3, 1):
        expected = np.repeat(GREY[..., None], channels, -1)
        assert_near(decoded(content, channels), expected, 6 if form == "JPEG" else 0)
    assert_near(decoded(encoded(SCENE, "PNG"), 1)[..., 0], np.asarray(_luma(SCENE)), 1)


def _luma(image):
    return np.round(image @ [0.299, 0.587, 0.114])


def test_16_bits_are_scaled_and_not_clipped():
    deep = GREY.astype(np.uint16) * 257
    assert_near(decoded(encoded(deep, "PNG")), np.repeat(GREY[..., None], 3, -1), 0)


def test_cmyk():
    cmyk = Image.fromarray(SCENE).convert("CMYK")
    assert_near(decoded(encoded(cmyk, quality=98, subsampling=0)), SCENE, 12)


def test_palette():
    few = (SCENE // 128 * 128).astype(np.uint8)
    palette = Image.fromarray(few).quantize(64)
    assert_near(decoded(encoded(palette, "PNG")), np.asarray(palette.convert("RGB")), 0)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_transparent_pixels_are_laid_on_white(form):
    alpha = np.zeros(SCENE.shape[:2], np.uint8)
    alpha[:24], alpha[24:36] = 255, 128
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    content = encoded(np.dstack([SCENE, alpha]), form, **options)
    share = alpha[..., None] / 255
    assert_near(decoded(content), SCENE * share + 255 * (1 - share), 1)
    assert decoded(content, 4).shape == (48, 64, 4)


def test_transparent_colour_of_a_palette_is_white():
    palette = Image.fromarray(SCENE).quantize(8)
    array = decoded(encoded(palette, "PNG", transparency=0))
    transparent = np.asarray(palette) == 0
    assert transparent.any()
    assert np.all(array[transparent] == 255)
    assert_near(array[~transparent], np.asarray(palette.convert("RGB"))[~transparent], 0)


@pytest.mark.parametrize(("form", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
def test_an_animation_is_its_first_frame(form, options):
    assert_near(decoded(frames(form, SCENE, **options)), SCENE, 0)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_the_image(form, orientation):
    options = {"JPEG": {"quality": 90}, "PNG": {}, "WEBP": {"lossless": True}}[form]
    content = with_orientation(SCENE, orientation, form, **options)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    np.testing.assert_array_equal(decoded(content), expected)


def test_a_broken_orientation_is_upright():
    content = with_orientation(SCENE, 99)
    np.testing.assert_array_equal(decoded(content), np.asarray(Image.open(io.BytesIO(content))))


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(("height", "width"), [(64, 96), (61, 75)])
@pytest.mark.parametrize("reduction", [2, 4, 8, 16])
def test_a_reduced_jpeg_is_the_mean_of_squares(height, width, reduction, orientation):
    """The scaled DCT is nearly the mean; the last square of a side may be cut by the image's end."""
    content = with_orientation(scene(height, width), orientation, quality=95, subsampling=0)
    whole = decoded(content)
    array, applied = EncodedImage(content, "file").pixels(reduction)
    assert applied == (min(reduction, 8) if orientation == 1 else 1)
    assert array.shape == (-(-whole.shape[0] // applied), -(-whole.shape[1] // applied), 3)
    rows, columns = (side // applied * applied for side in whole.shape[:2])
    squares = whole[:rows, :columns].reshape(rows // applied, applied, -1, applied, 3)
    inner = array[: rows // applied, : columns // applied]
    assert np.abs(inner - squares.mean((1, 3))).max() < 6


def test_other_formats_are_not_reduced():
    array, applied = EncodedImage(encoded(SCENE, "PNG"), "file").pixels(4)
    assert (array.shape, applied) == (SCENE.shape, 1)


JPEG = encoded(SCENE)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no image at all",
        JPEG[:20],
        JPEG[: len(JPEG) // 2],
        JPEG[:-20],
        encoded(SCENE, "PNG")[:-300],
        encoded(SCENE, "PNG")[:60],
        encoded(SCENE, "WEBP")[:100],
        encoded(SCENE, "BMP")[:1000],
        encoded(GREY, "PNG")[:40] + b"\0" * 100,
    ],
)
def test_damaged_files_are_named(content):
    with pytest.raises(DamagedImageError, match="^cat/7.jpg: ") as caught:
        pixels(EncodedImage(content, "cat/7.jpg"))
    assert "\n" not in str(caught.value)
    assert "0x" not in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_wrong_extension_and_what_others_bear_are_no_damage():
    """A PNG file called .jpg, and bytes behind the end of a JPEG file."""
    assert_near(decoded(encoded(SCENE, "PNG")), SCENE, 0)
    np.testing.assert_array_equal(decoded(JPEG + b"\0" * 50), decoded(JPEG))
    stray = JPEG[:-2] + b"\x11\x22\x33" + JPEG[-2:]
    np.testing.assert_array_equal(decoded(stray), np.asarray(Image.open(io.BytesIO(stray))))
