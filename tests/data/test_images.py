"""Crops, against numpy slices, linear ramps and symmetries."""

import io
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_files import scene, with_orientation
from PIL import Image

from resnet_jax.data.decoding import EncodedImage, pixels
from resnet_jax.data.images import Geometry, _bilinear, _draw_box, centre_crop, random_resized_crop
from resnet_jax.errors import UserError

sides = st.integers(1, 40)
sizes = st.integers(1, 24)
channel_counts = st.sampled_from([1, 3])
seeds = st.integers(0, 2**32)


def random_image(height, width, channels, seed):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


@given(sides, sides, channel_counts, sizes, st.sampled_from([1.0, 0.875, 0.5, 0.3]), seeds)
def test_centre_crop_has_the_size_asked_for(height, width, channels, size, fraction, seed):
    crop = centre_crop(random_image(height, width, channels, seed), Geometry(size, fraction))
    assert crop.shape == (size, size, channels)
    assert crop.dtype == np.uint8


@given(sizes, channel_counts, seeds)
def test_centre_crop_of_an_image_that_fits_is_the_identity(size, channels, seed):
    image = random_image(size, size, channels, seed)
    np.testing.assert_array_equal(centre_crop(image, Geometry(size)), image)


@given(sizes, st.integers(0, 20), st.booleans(), st.sampled_from([1.0, 0.5]))
def test_centre_crop_without_resizing_leaves_equal_margins(size, extra, tall, fraction):
    """Every pixel holds its own row and column, so the crop says where it was cut."""
    shorter = int(size / fraction)
    height, width = (shorter + extra, shorter) if tall else (shorter, shorter + extra)
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows, columns, rows], -1).astype(np.uint8)
    crop = centre_crop(image, Geometry(size, fraction)).astype(int)
    top, left = crop[0, 0, :2]
    np.testing.assert_array_equal(crop, image[top : top + size, left : left + size])
    assert abs(top - (height - size - top)) <= 1
    assert abs(left - (width - size - left)) <= 1


@pytest.mark.parametrize(("side", "fraction"), [(80, 0.5), (80, 1.0), (40, 0.8), (30, 0.4)])
def test_centre_crop_keeps_its_fraction_of_the_shorter_side(side, fraction):
    """A linear ramp stays one under bilinear resizing, so each pixel's place in it is known."""
    size = 16
    ramp = np.broadcast_to(np.arange(2 * side, dtype=np.uint8)[None, :, None], (side, 2 * side, 1))
    row = centre_crop(np.ascontiguousarray(ramp), Geometry(size, fraction))[size // 2, :, 0]
    step = side * fraction / size
    expected = side - 0.5 + (np.arange(size) + 0.5 - size / 2) * step
    assert np.abs(row - expected).max() <= 1 + step / 2


@pytest.mark.parametrize(("height", "width"), [(50, 67), (31, 200), (180, 23), (30, 400)])
def test_centre_crop_is_a_cut_of_the_whole_image_resized(height, width):
    """Exactly, as in earlier versions, so that their runs go on; of a ribbon, but for rounding."""
    image, size, shorter = random_image(height, width, 3, 0), 14, 20
    sides = [round(side * shorter / min(height, width)) for side in (height, width)]
    whole = Image.fromarray(image).resize(sides[::-1], Image.Resampling.BILINEAR)
    top, left = ((side - size) // 2 for side in sides)
    expected = np.asarray(whole)[top : top + size, left : left + size].astype(int)
    most = 0 if max(height, width) < 10 * min(height, width) else 2
    assert np.abs(centre_crop(image, Geometry(size, 0.7)) - expected).max() <= most


@given(sides, sides, sizes, seeds)
def test_centre_crop_treats_rows_and_columns_alike(height, width, size, seed):
    """Pillow rounds after each of the two directions, hence the tolerance."""
    image = random_image(height, width, 3, seed)
    transposed = centre_crop(np.ascontiguousarray(image.swapaxes(0, 1)), Geometry(size)).swapaxes(
        0, 1
    )
    assert np.abs(centre_crop(image, Geometry(size)).astype(int) - transposed).max() <= 2


@given(sides, sides, sizes, seeds)
def test_channels_are_cropped_alike_and_apart(height, width, size, seed):
    """A colour image gives what its three channels give as grey images."""
    image = random_image(height, width, 3, seed)
    for crop in (
        lambda x: centre_crop(x, Geometry(size, 0.875)),
        lambda x: random_resized_crop(x, Geometry(size), np.random.default_rng(seed)),
    ):
        apart = [crop(image[..., c : c + 1]) for c in range(3)]
        np.testing.assert_array_equal(crop(image), np.concatenate(apart, -1))


@given(sides, sides, channel_counts, sizes, seeds)
def test_random_resized_crop_shape_and_range(height, width, channels, size, seed):
    image = random_image(height, width, channels, seed)
    crop = random_resized_crop(image, Geometry(size), np.random.default_rng(seed))
    assert crop.shape == (size, size, channels)
    assert crop.dtype == np.uint8
    # Bilinear weights are positive and sum to one.
    assert image.min() <= crop.min()
    assert crop.max() <= image.max()


def boxes(height, width, count):
    """(left, top, width, height) of random crops, read from the slopes of two ramps."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([columns, rows, columns], -1).astype(np.uint8)
    rng, size = np.random.default_rng(0), 48
    crops = np.stack(
        [random_resized_crop(image, Geometry(size), rng) for _ in range(count)]
    ).astype(float)
    places = np.arange(size) + 0.5
    inner = slice(8, 40)
    found = []
    for profile in (crops[..., 0].mean(1), crops[..., 1].mean(2)):
        slope, start = np.polyfit(places[inner], profile[:, inner].T, 1)
        found.append((start + 0.5, slope * size))
    (left, box_width), (top, box_height) = found
    return left, top, box_width, box_height


def test_random_resized_crop_stays_within_area_and_aspect():
    height, width = 180, 240
    left, top, box_width, box_height = boxes(height, width, 400)
    area = box_width * box_height / (height * width)
    aspect = box_width / box_height
    assert area.min() > 0.08 - 0.01
    assert area.max() < 1 + 0.01
    assert aspect.min() > 3 / 4 - 0.03
    assert aspect.max() < 4 / 3 + 0.03
    assert min(left.min(), top.min()) > -2
    assert (left + box_width).max() < width + 2
    assert (top + box_height).max() < height + 2


def test_random_resized_crop_covers_its_range():
    """Sizes, shapes and places are spread; the log of the aspect ratio has its middle at 0."""
    height = width = 200
    left, _, box_width, box_height = boxes(height, width, 400)
    area = box_width * box_height / (height * width)
    aspect = box_width / box_height
    assert area.min() < 0.11
    assert area.max() > 0.9
    assert aspect.min() < 0.77
    assert aspect.max() > 1.3
    assert abs(np.log(aspect).mean()) < 5 * np.log(4 / 3) / np.sqrt(3 * 400)
    # Fewer large parts fit than small ones, so the mean of the area is below (0.08 + 1) / 2.
    assert 0.43 < area.mean() < 0.55
    slack = width - box_width > 20
    place = left[slack] / (width - box_width)[slack]
    assert place.min() < 0.05
    assert place.max() > 0.95
    assert abs(place.mean() - 0.5) < 5 / np.sqrt(12 * slack.sum())


@pytest.mark.parametrize("shape", [(1, 100, 3), (100, 1, 1), (3, 200, 3)])
def test_random_resized_crop_falls_back_to_the_centre(shape):
    """No part of 8% of so flat an image has an aspect ratio of at most 4/3."""
    image = random_image(*shape, 0)
    crop = random_resized_crop(image, Geometry(8), np.random.default_rng(3))
    np.testing.assert_array_equal(crop, centre_crop(image, Geometry(8)))


def test_random_resized_crop_is_a_function_of_the_generator():
    image = random_image(50, 60, 3, 0)
    first, again, other = (
        random_resized_crop(image, Geometry(16), np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def natural(height, width, seed):
    """Noise that is smooth over two pixels, as photographs are."""
    fine = random_image(height, width, 3, seed)
    small = Image.fromarray(fine).resize((width // 2, height // 2), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


@given(st.integers(40, 300), st.integers(40, 300), st.integers(20, 100), seeds)
def test_centre_crop_is_the_centre_of_the_resized_image(height, width, size, seed):
    """As Pillow resizes the whole image; it rounds after each direction."""
    image, fraction = random_image(height, width, 3, seed), 0.875
    shorter = round(size / fraction)
    rows, columns = (round(side * shorter / min(height, width)) for side in (height, width))
    whole = np.asarray(Image.fromarray(image).resize((columns, rows), Image.Resampling.BILINEAR))
    top, left = (rows - size) // 2, (columns - size) // 2
    expected = whole[top : top + size, left : left + size].astype(int)
    assert np.abs(centre_crop(image, Geometry(size, fraction)) - expected).max() <= 2


def test_centre_crop_of_a_ribbon_takes_little_memory():
    """Resized as a whole, an image of 20,000 × 10 pixels would take 300 MB."""
    ribbon = random_image(20_000, 10, 3, 0)
    tracemalloc.start()
    centre_crop(ribbon, Geometry(224))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    resized = np.asarray(
        Image.fromarray(ribbon[9_900:10_100]).resize((224, 4480), Image.Resampling.BILINEAR)
    )
    crop = centre_crop(ribbon, Geometry(224)).astype(int)
    assert np.abs(crop - resized[(4480 - 224) // 2 :][:224]).max() <= 2
    assert peak < 20_000_000


@pytest.mark.parametrize("ratio", [0.4, 1.0, 1.2, 1.5, 1.9, 2.2, 3.7])
def test_random_crops_are_resized_nearly_as_by_pillow(ratio):
    """Exactly where they grow; where they shrink the filter has the same variance, another shape."""
    size = 64
    image = natural(round(size * ratio), round(1.1 * size * ratio), 1)
    expected = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)
    difference = np.abs(_bilinear(image, size) - np.asarray(expected).astype(int))
    assert difference.max() <= (1 if ratio <= 0.9 or ratio > 2 else 16)
    assert difference.mean() < (0.5 if ratio <= 0.9 else 2)


@pytest.mark.parametrize("orientation", [1, 6])
def test_random_crops_of_a_reduced_jpeg_are_those_of_the_whole(orientation):
    """From 16 to 1 pixel the file is decoded at an eighth; the box is that of the same draw."""
    content = with_orientation(scene(480, 640), orientation, quality=95, subsampling=0)
    encoded_image = EncodedImage(content, "file")
    whole = pixels(encoded_image)
    for seed in range(12):
        rngs = np.random.default_rng(seed), np.random.default_rng(seed)
        crop = random_resized_crop(encoded_image, Geometry(24), rngs[0]).astype(int)
        difference = np.abs(crop - random_resized_crop(whole, Geometry(24), rngs[1]))
        assert difference.mean() < 6
        assert rngs[0].random() == rngs[1].random()


FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}


@pytest.mark.parametrize("interpolation", FILTERS)
def test_a_centre_crop_has_the_filter_asked_for(interpolation):
    """It cuts the whole image that Pillow resized, and differs from those of the other filters."""
    image, side = natural(60, 80, 2), 30
    whole = Image.fromarray(image).resize((40, side), FILTERS[interpolation])
    crop = centre_crop(image, Geometry(side, 1.0, interpolation))
    np.testing.assert_array_equal(crop, np.asarray(whole)[:, 5:35])
    others = [centre_crop(image, Geometry(side, 1.0, other)) for other in FILTERS]
    assert sum(np.array_equal(crop, other) for other in others) == 1


@pytest.mark.parametrize("interpolation", ["bicubic", "lanczos", "nearest"])
def test_random_crops_have_the_filter_asked_for(interpolation):
    """Of JPEG files too, which are not decoded at a reduced size then."""
    content = with_orientation(scene(480, 640), 1, quality=95)
    whole = np.asarray(Image.open(io.BytesIO(content)))
    for image, seed in ((whole, 0), (EncodedImage(content, "file"), 0), (whole[:100, :90], 3)):
        height, width, _ = image.shape
        box = _draw_box(height, width, np.random.default_rng(seed))
        expected = Image.fromarray(pixels(image)).crop(box).resize((24, 24), FILTERS[interpolation])
        geometry = Geometry(24, 0.5, interpolation)
        crop = random_resized_crop(image, geometry, np.random.default_rng(seed))
        np.testing.assert_array_equal(crop, np.asarray(expected))


def test_an_unknown_filter_is_refused():
    with pytest.raises(UserError, match="data.interpolation = 'cubic': allowed: bilinear, bicubic"):
        Geometry(8, interpolation="cubic")
