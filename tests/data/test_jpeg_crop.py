"""Crops of JPEG files by `native_jpeg/`, against decoding the whole file; and without it, the same."""

import importlib.util
import shutil
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import encoded, scene, with_orientation
from PIL import Image

from resnet_jax.data import decoding
from resnet_jax.data.decoding import DamagedImageError, EncodedImage
from resnet_jax.data.images import Geometry, _bilinear, random_resized_crop

SOURCE = Path(__file__).parents[2] / "native_jpeg" / "resnet_jax_jpeg.c"
# Levels of 255. Of three weights each may be off by half of 1/256, and the fourth by what these miss: 1.5
# levels between black and white, and half a level of rounding, in each of two directions. Photographs have 2.
MOST = 4


def built(directory):
    """The extension as `pip install` builds it, from this tree."""
    command = [shutil.which("cc") or "cc", "-shared", "-fPIC", "-O3"]
    command += ["-I", sysconfig.get_path("include")]
    (directory / "probe.c").write_text("#include <stdio.h>\n#include <jpeglib.h>\n")
    try:
        probe = subprocess.run([*command, "probe.c", "-ljpeg"], cwd=directory, capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no C compiler")
    if probe.returncode:
        pytest.skip("the headers of libjpeg-turbo are not installed")
    library = directory / "resnet_jax_jpeg.so"
    subprocess.run([*command, SOURCE, "-o", library, "-ljpeg"], check=True)
    spec = importlib.util.spec_from_file_location("resnet_jax_jpeg", library)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", autouse=True)
def native(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "resnet_jax_jpeg", built(tmp_path_factory.mktemp("native")))
        yield decoding.resnet_jax_jpeg


def jpeg(height, width, kind, quality, seed=0):
    """A scene with noise, in one of the ways to store it."""
    noise = np.random.default_rng(seed).integers(-20, 20, (height, width, 3))
    image = np.clip(scene(height, width) + noise, 0, 255).astype(np.uint8)
    options = {
        "4:4:4": {"subsampling": 0},
        "4:2:2": {"subsampling": 1},
        "4:2:0": {"subsampling": 2},
        "progressive": {"progressive": True},
        "restarts": {"restart_marker_rows": 1},
        "RGB": {"keep_rgb": True},
        "grey": {},
    }[kind]
    return encoded(image[..., 0] if kind == "grey" else image, quality=quality, **options)


kinds = st.sampled_from(["4:4:4", "4:2:2", "4:2:0", "progressive", "restarts", "RGB", "grey"])
sides = st.integers(4, 150)
shares = st.floats(0, 1)
seeds = st.integers(0, 2**32)


def box_of(shape, size, shares):
    """(left, top, right, bottom) of a box of (height, width) that fits into an image."""
    height, width = (min(side, most) for side, most in zip(size, shape, strict=True))
    top, left = (
        round(share * (most - side))
        for share, most, side in zip(shares, shape, (height, width), strict=True)
    )
    return left, top, left + width, top + height


@settings(max_examples=150)
@given(
    sides, sides, kinds, st.integers(50, 98), st.sampled_from([1, 2, 4, 8]), sides, shares, shares
)
def test_a_box_has_the_pixels_of_the_whole(height, width, kind, quality, reduction, size, y, x):
    """Exactly, where it need not be resized."""
    image = EncodedImage(jpeg(height * reduction, width, kind, quality), "file")
    whole, applied = image.pixels(reduction)
    size = min(size, *whole.shape[:2])
    left, top, right, bottom = box = box_of(whole.shape[:2], (size, size), (y, x))
    crop = image.crop(box, applied, size)
    if size < 4:
        assert crop is None
    else:
        np.testing.assert_array_equal(crop, whole[top:bottom, left:right])


@settings(max_examples=150)
@given(sides, sides, kinds, sides, sides, st.integers(2, 150), shares, shares)
def test_a_box_is_resized_as_without_the_extension(height, width, kind, rows, columns, size, y, x):
    image = EncodedImage(jpeg(height, width, kind, 90), "file")
    whole, _ = image.pixels()
    left, top, right, bottom = box = box_of((height, width), (rows, columns), (y, x))
    size = max(size, min(right - left, bottom - top) // 2 + 1)
    expected = _bilinear(whole[top:bottom, left:right], size).astype(int)
    difference = np.abs(image.crop(box, 1, size) - expected)
    assert difference.max() <= MOST
    assert difference.mean() < 0.6


def exactly(image, size):
    """The filter of `_bilinear` by its definition, in float64: uint8[rows, columns, 3]."""
    for _ in range(2):
        count = len(image)
        ratio = count / size
        side = min(max(ratio**2 - 1, 0) / 12, 1 / 3)
        edged = np.concatenate([image[:1], image, image[-1:]]).astype(float)
        smooth = side * (edged[:-2] + edged[2:]) + (1 - 2 * side) * edged[1:-1]
        places = np.clip((np.arange(size) + 0.5) * ratio - 0.5, 0, count - 1)
        before = places.astype(int)
        share = (places - before)[:, None, None]
        after = np.minimum(before + 1, count - 1)
        image = (smooth[before] * (1 - share) + smooth[after] * share).swapaxes(0, 1)
    return image


@settings(max_examples=50)
@given(sides, sides, st.integers(16, 150), seeds)
def test_a_box_is_resized_by_the_filter_that_is_meant(height, width, size, seed):
    """Of noise, where each error of a weight shows most."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    image = EncodedImage(encoded(noise, quality=98, subsampling=0), "file")
    size = max(size, min(height, width) // 2 + 1)
    difference = image.crop((0, 0, width, height), 1, size) - exactly(image.pixels()[0], size)
    assert np.abs(difference).max() <= MOST
    assert np.abs(difference).mean() < 0.5


def both_ways(content, size, seed, monkeypatch):
    """A random crop with and without the extension: pixels, or the error in words."""
    results = []
    for module in (decoding.resnet_jax_jpeg, None):
        with monkeypatch.context() as patch:
            patch.setattr(decoding, "resnet_jax_jpeg", module)
            rng = np.random.default_rng(seed)
            try:
                image = EncodedImage(content, "file")
                results.append(random_resized_crop(image, Geometry(size), rng).astype(int))
            except DamagedImageError as error:
                results.append(str(error))
            results.append(rng.random())
    assert results[1] == results[3]
    return results[0], results[2]


@pytest.fixture(scope="module")
def patch():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@settings(max_examples=100)
@given(st.integers(1, 300), st.integers(1, 300), kinds, st.integers(1, 100), seeds)
def test_random_crops_are_those_without_the_extension(patch, height, width, kind, size, seed):
    """Also of images smaller than the target, too small for it, and reduced ones."""
    with_it, without = both_ways(jpeg(height, width, kind, 90), size, seed, patch)
    assert np.abs(with_it - without).max() <= MOST


def test_photographs_differ_by_less_than_a_level(patch):
    """Boxes of all sizes; a mean squared difference of 0.5 is 51 dB."""
    content = encoded(scene(375, 500), quality=90)
    for seed in range(10):
        with_it, without = both_ways(content, 224, seed, patch)
        assert ((with_it - without) ** 2).mean() < 0.5
        assert abs((with_it - without).mean()) < 0.2


@pytest.mark.parametrize(
    "content",
    [
        *(with_orientation(scene(90, 120), orientation) for orientation in range(2, 9)),
        encoded(Image.fromarray(scene(90, 120)).convert("CMYK")),
        encoded(scene(90, 120), "PNG"),
        encoded(scene(90, 120), "WEBP"),
    ],
)
def test_other_files_are_decoded_whole(patch, content):
    with_it, without = both_ways(content, 32, 0, patch)
    np.testing.assert_array_equal(with_it, without)


PHOTOGRAPH = encoded(scene(120, 160), quality=90)


@given(st.integers(2, len(PHOTOGRAPH)), seeds)
def test_a_file_that_is_cut_off_is_the_same_error(patch, length, seed):
    """Also where the crop lies before the cut; a file without its end mark alone is read."""
    with_it, without = both_ways(PHOTOGRAPH[:length], 32, seed, patch)
    assert isinstance(without, str) == (length < len(PHOTOGRAPH) - 2)
    assert_alike(with_it, without)


def assert_alike(with_it, without):
    if isinstance(without, str):
        assert with_it == without
    else:
        assert np.abs(with_it - without).max() <= MOST


@settings(max_examples=300)
@given(kinds, st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=3), seeds)
def test_a_corrupt_file_is_the_same_pixels_or_the_same_error(patch, kind, changes, seed):
    """At a size for which a file is not reduced; without the extension a corrupt one never is."""
    content = bytearray(jpeg(120, 160, kind, 90))
    for place, value in changes:
        content[int(place * (len(content) - 1))] = value
    assert_alike(*both_ways(bytes(content), 64, seed, patch))


@pytest.mark.parametrize("mark", [b"\xff\xc0\x00\x11", b"\xff\xda\x00\x0c", b"\xff\xd8"])
def test_marks_behind_the_crop_are_seen(patch, native, mark):
    """Where libjpeg would not come if it stopped at the last row of the crop."""
    content = PHOTOGRAPH[:-40] + mark + PHOTOGRAPH[-40:]
    out = np.empty((32, 32, 3), np.uint8)
    assert native.crop(PHOTOGRAPH, 1, (0, 0, 32, 32), 32, out)
    assert not native.crop(content, 1, (0, 0, 32, 32), 32, out)
    for seed in range(5):
        assert_alike(*both_ways(content, 32, seed, patch))


def test_bytes_behind_the_end_mark_do_not_count(native):
    """As in files of telephones with several pictures."""
    out = np.empty((32, 32, 3), np.uint8)
    for more in (b"\0" * 50, PHOTOGRAPH):
        assert native.crop(PHOTOGRAPH + more, 1, (8, 8, 64, 64), 32, out)


@pytest.mark.parametrize(
    ("reduction", "box", "size", "length"),
    [
        (1, (0, 0, 161, 120), 32, 32 * 32 * 3),
        (1, (0, 0, 160, 121), 32, 32 * 32 * 3),
        (1, (-1, 0, 60, 60), 32, 32 * 32 * 3),
        (1, (2**31 - 1, 0, 60, 60), 32, 32 * 32 * 3),
        (1, (60, 60, 2**31 - 1, 2**31 - 1), 32, 32 * 32 * 3),
        (2, (0, 0, 81, 60), 32, 32 * 32 * 3),
        (1, (0, 0, 3, 60), 32, 32 * 32 * 3),
        (1, (0, 0, 60, 60), 0, 0),
        (1, (0, 0, 60, 60), 32, 32 * 32 * 3 - 1),
    ],
)
def test_boxes_that_do_not_fit_are_refused(native, reduction, box, size, length):
    assert not native.crop(PHOTOGRAPH, reduction, box, size, bytearray(length))


def test_crops_in_threads_are_those_of_one(native):
    def crop(seed):
        return random_resized_crop(
            EncodedImage(PHOTOGRAPH, "file"), Geometry(48), np.random.default_rng(seed)
        ).tobytes()

    alone = [crop(seed) for seed in range(64)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(crop, range(64))) == alone


def test_the_extension_is_used(native, monkeypatch):
    """Else the tests above would compare the old way with itself."""
    monkeypatch.setattr(decoding.simplejpeg, "decode_jpeg", None)
    image = EncodedImage(PHOTOGRAPH, "file")
    for seed in range(10):
        random_resized_crop(image, Geometry(32), np.random.default_rng(seed))
