"""Decoding, against the pixels that were encoded, and Pillow."""

import hashlib
import io
import os
import pickle
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import encoded, frames, scene, with_orientation
from PIL import Image, ImageOps, PngImagePlugin, TiffImagePlugin, features

from resnet_jax.data.decoding import VERSION, DamagedImageError, EncodedImage, pixels
from resnet_jax.data.images import INTERPOLATIONS, Geometry, centre_crop

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


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "TIFF, compressed", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_the_image(form, orientation):
    forms = {"JPEG": {"quality": 90}, "WEBP": {"lossless": True}}
    options = forms.get(form, {"compression": "tiff_lzw"} if "compressed" in form else {})
    form = form.partition(",")[0]
    if form == "AVIF" and not features.check("avif"):
        pytest.skip("Pillow was built without AVIF")
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


def upright(content):
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))


@settings(max_examples=30)
@given(
    st.integers(2, 8),
    st.lists(st.sampled_from(["fill", "comment", "app2", "long", "xmp"]), max_size=4),
    st.integers(0, 3),
)
def test_the_orientation_of_a_jpeg_is_found_behind_whatever_is_before_it(orientation, before, fill):
    """Fill bytes, comments with markers in them and other segments: as Pillow finds it."""
    content = with_orientation(SCENE, orientation, quality=80)
    at = content.index(b"\xff\xe1")
    segments = {
        "fill": b"\xff" * fill,
        "comment": b"\xff\xfe\x00\x08\xff\xda\xff\xe1ab"[:10],
        "app2": b"\xff\xe2\x00\x0aMPF0\xff\xda\xff\xd9",
        "long": b"\xff\xe2\xea\x62" + b"\xff\xda" * 30_000,
        "xmp": b"\xff\xe1\x00\x0chttp://abc",
    }
    inserted = b"".join(segments[name] for name in before)
    content = content[:at] + inserted + content[at:]
    np.testing.assert_array_equal(decoded(content), upright(content))
    assert decoded(content).shape[:2] == ((64, 48) if orientation >= 5 else (48, 64))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_an_orientation_in_xmp_alone_counts(form):
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp.decode(), zip=True)
    options = {"pnginfo": info} if form == "PNG" else {"xmp": xmp}
    content = encoded(SCENE, form, **options)
    assert decoded(content).shape == (64, 48, 3)
    np.testing.assert_array_equal(decoded(content), upright(content))


@pytest.mark.parametrize("form", ["GIF", "TIFF", "PPM", "JPEG2000"])
def test_other_formats_that_pillow_reads(form):
    few = (SCENE // 128 * 128).astype(np.uint8)
    assert_near(decoded(encoded(few, form)), few, 0)
    grey = (GREY // 64 * 64).astype(np.uint8)
    assert_near(decoded(encoded(grey, form))[..., :1], grey[..., None], 0)


@pytest.mark.parametrize("form", ["GIF", "TIFF"])
def test_the_first_frame_or_page(form):
    few = (SCENE // 128 * 128).astype(np.uint8)
    assert_near(decoded(frames(form, few)), few, 0)


def test_one_bit():
    bits = GREY > 128
    for form in ("PNG", "TIFF", "PPM"):
        expected = np.where(bits, 255, 0)[..., None].repeat(3, -1)
        assert_near(decoded(encoded(Image.fromarray(bits), form)), expected, 0)


def png(values, depth, colour, transparent=None):
    """A PNG file written from the specification: integers [height, width, channels]."""

    def chunk(name, content):
        crc = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc)

    height, width = values.shape[:2]
    if depth == 16:
        rows = [row.astype(">u2").tobytes() for row in values]
    else:
        bits = np.unpackbits(values.astype(np.uint8)[..., None], axis=-1)[..., -depth:]
        rows = [np.packbits(row.reshape(-1)).tobytes() for row in bits]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    if transparent is not None:
        content += chunk(b"tRNS", np.array(transparent, ">u2").tobytes())
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return content + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


GREY_PNG, RGB_PNG, GREY_ALPHA_PNG, RGBA_PNG = 0, 2, 4, 6


@settings(max_examples=25)
@given(st.sampled_from([1, 2, 4, 8, 16]), st.booleans(), st.integers(0, 2**32))
def test_grey_png_of_any_depth_with_and_without_a_transparent_value(depth, transparent, seed):
    rng, most = np.random.default_rng(seed), 2**depth - 1
    values = rng.integers(0, most + 1, (5, 7, 1))
    key = int(values[2, 3, 0]) if transparent else None
    expected = np.round(values * (255 / most))
    if transparent:
        expected = np.where(values == key, 255, expected)
    content = png(values, depth, GREY_PNG, key)
    assert_near(decoded(content), expected.repeat(3, -1), 1 if depth == 16 else 0)
    assert_near(decoded(content, 1), expected, 1 if depth == 16 else 0)


@pytest.mark.parametrize("colour", [RGB_PNG, GREY_ALPHA_PNG, RGBA_PNG])
def test_png_of_16_bits_a_channel(colour):
    count = {RGB_PNG: 3, GREY_ALPHA_PNG: 2, RGBA_PNG: 4}[colour]
    values = np.random.default_rng(0).integers(0, 65536, (6, 5, count))
    share = 1 if colour == RGB_PNG else values[..., -1:] / 65535
    colours = values[..., : 3 if count > 2 else 1].repeat(1 if count > 2 else 3, -1)
    expected = colours / 257 * share + 255 * (1 - share)
    assert_near(decoded(png(values, 16, colour)), np.round(expected), 2)


def test_a_transparent_colour_of_16_bits_is_refused():
    """Pillow compares its lower bytes with the upper ones of the pixels."""
    values = np.random.default_rng(0).integers(0, 65536, (6, 5, 3))
    with pytest.raises(DamagedImageError, match="16 bits a channel and one transparent colour"):
        decoded(png(values, 16, RGB_PNG, values[0, 0]))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (GREY.astype(np.float32), "floating-point pixels, whose range is not known"),
        (GREY.astype(np.int32) * 1000, "signed or 32-bit pixels"),
    ],
)
def test_pixels_of_unknown_range_are_refused(array, words):
    with pytest.raises(DamagedImageError, match=f"^file: has {words}"):
        decoded(encoded(array, "TIFF"))


@pytest.mark.parametrize("most", [255, 1023, 65535])
def test_pgm_of_any_largest_value(most):
    values = np.random.default_rng(0).integers(0, most + 1, (5, 7))
    content = b"P5 7 5 %d\n" % most + values.astype(">u2" if most > 255 else "u1").tobytes()
    expected = np.round(values * 255 / most)[..., None].repeat(3, -1)
    assert_near(decoded(content), expected, 1 if most > 255 else 0)


@pytest.mark.parametrize("white", [0, 65535])
def test_grey_tiff_of_16_bits(white):
    """Its numbers may count from white, too."""
    deep = GREY.astype(np.uint16) * 257
    info = TiffImagePlugin.ImageFileDirectory_v2()
    content = encoded(deep if white else 65535 - deep, "TIFF", tiffinfo=info)
    if not white:
        # Pillow writes no such file: the tag of the photometric interpretation, a SHORT, is changed.
        at = content.index(struct.pack("<HHI", 262, 3, 1)) + 8
        assert content[at] == 1
        content = content[:at] + b"\0" + content[at + 1 :]
    assert_near(decoded(content), GREY[..., None].repeat(3, -1), 0)


def test_too_large_is_not_called_corrupt(monkeypatch):
    monkeypatch.setattr("resnet_jax.data.decoding.MOST_PIXELS", 2000)
    with pytest.raises(DamagedImageError, match="has more than the 2,000 pixels that are read"):
        decoded(encoded(SCENE, "PNG"))
    for size, form in ((SCENE, "JPEG"), (np.tile(SCENE, (9, 9, 1)), "JPEG")):
        content = with_orientation(size, 6, form)
        with pytest.raises(DamagedImageError, match="has more than the 2,000 pixels"):
            decoded(content)
    # Between once and twice the number Pillow warns, which is no business of this user.
    small = encoded(SCENE[:30, :40], "PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert decoded(small).shape == (30, 40, 3)


@given(st.text(max_size=40), st.binary(max_size=9))
def test_a_name_of_any_characters_can_be_printed(name, tail):
    name += os.fsdecode(tail)
    with pytest.raises(DamagedImageError) as caught:
        EncodedImage(b"text", name)
    assert str(caught.value).isprintable()
    assert str(caught.value).encode()
    if name.isprintable():
        assert str(caught.value).startswith(f"{name}: ")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.name, again.problem) == (caught.value.name, caught.value.problem)


def test_the_version_rises_with_the_pixels():
    """A file that decodes otherwise, or is resized otherwise, needs another `decoding.VERSION`."""
    digest = hashlib.sha256()
    for image in (SCENE, GREY, Image.fromarray(GREY > 99)):
        file = EncodedImage(encoded(image, "PNG"), "file")
        digest.update(pixels(file))
        for interpolation in INTERPOLATIONS:
            digest.update(centre_crop(file, Geometry(24, 0.75, interpolation)).tobytes())
    assert (VERSION, digest.hexdigest()[:12]) == (2, "16b1fcbb862a")
