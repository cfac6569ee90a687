"""Augmentations, against every crop, mirror image and square that numpy can make."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from resnet_jax.data.augment import Augmentation, cutout, erase, flip, pad_and_crop


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def positive_image(height, width, channels, seed=0):
    """Values of at least 1, so that a zero is padding or cut out."""
    rng = np.random.default_rng(seed)
    return (1 + rng.random((height, width, channels))).astype(np.float32)


def crops(image, pad):
    height, width, _ = image.shape
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    offsets = itertools.product(range(2 * pad + 1), repeat=2)
    return [padded[top : top + height, left : left + width] for top, left in offsets]


def with_square_at(image, row, column, side):
    result = image.copy()
    top, left = row - side // 2, column - side // 2
    result[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)] = 0
    return result


def which(results, candidates):
    """The index of the one candidate that each result equals."""
    equal = np.all(np.asarray(results)[:, None] == np.stack(candidates)[None], (2, 3, 4))
    assert np.all(equal.sum(1) == 1)
    return equal.argmax(1)


@pytest.mark.parametrize(("shape", "pad"), [((5, 7, 3), 1), ((6, 4, 1), 2)])
def test_pad_and_crop_takes_every_window_equally_often(shape, pad):
    image, count = positive_image(*shape), 1000
    results = jax.vmap(lambda key: pad_and_crop(key, image, pad))(keys(count))
    windows = (2 * pad + 1) ** 2
    counts = np.bincount(which(results, crops(image, pad)), minlength=windows)
    assert len(counts) == windows
    assert np.abs(counts - count / windows).max() < 5 * np.sqrt(count / windows)


def test_flip_mirrors_half_of_the_images():
    image, count = positive_image(4, 5, 3), 1000
    results = jax.vmap(lambda key: flip(key, image))(keys(count))
    flipped = which(results, [image, image[:, ::-1]])
    assert abs(flipped.mean() - 0.5) < 5 * 0.5 / np.sqrt(count)


def test_flip_twice_with_one_key_is_the_identity():
    image = positive_image(4, 5, 3)
    twice = jax.vmap(lambda key: flip(key, flip(key, image)))(keys(20))
    np.testing.assert_array_equal(twice, np.broadcast_to(image, twice.shape))


@pytest.mark.parametrize("side", [1, 2, 3, 4])
def test_cutout_zeroes_one_square_about_any_pixel(side):
    """Centres whose clipped squares are the same count together."""
    height, width, count = 5, 6, 1500
    image = positive_image(height, width, 2)
    centres = itertools.product(range(height), range(width))
    squares = [with_square_at(image, *centre, side) for centre in centres]
    distinct, copies = np.unique(np.stack(squares), axis=0, return_counts=True)
    results = jax.vmap(lambda key: cutout(key, image, side))(keys(count))
    counts = np.bincount(which(results, list(distinct)), minlength=len(distinct))
    expected = count * copies / (height * width)
    assert len(counts) == len(distinct)
    assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected))


def test_cutout_larger_than_twice_the_image_leaves_nothing():
    image = positive_image(5, 6, 1)
    np.testing.assert_array_equal(cutout(keys(1)[0], image, 13), np.zeros_like(image))


def test_nothing_on_is_the_identity():
    images = jnp.stack([positive_image(4, 5, 3, seed) for seed in range(6)])
    np.testing.assert_array_equal(Augmentation()(keys(6), images), images)


@pytest.mark.parametrize(
    ("augmentation", "pad", "mirror", "side"),
    [
        (Augmentation(pad=1), 1, False, 0),
        (Augmentation(flip=True), 0, True, 0),
        (Augmentation(cutout=3), 0, False, 3),
        (Augmentation(pad=1, flip=True, cutout=3), 1, True, 3),
    ],
)
def test_augmentation_is_crop_then_flip_then_cutout(augmentation, pad, mirror, side):
    """Each result is one of all that the three operations can make, and many occur."""
    image = positive_image(4, 5, 2)
    candidates = crops(image, pad)
    if mirror:
        candidates += [crop[:, ::-1] for crop in candidates]
    if side:
        centres = list(itertools.product(range(4), range(5)))
        candidates = [with_square_at(c, *centre, side) for c in candidates for centre in centres]
    candidates = list(np.unique(np.stack(candidates), axis=0))
    images = np.broadcast_to(image, (100, *image.shape))
    found = which(augmentation(keys(100), images), candidates)
    assert len(set(found)) >= min(len(candidates), 30)


def test_a_part_of_the_batch_is_augmented_as_in_the_whole():
    augment = jax.jit(Augmentation(pad=2, flip=True, cutout=3))
    images = jnp.stack([positive_image(6, 7, 3, seed) for seed in range(12)])
    whole = augment(keys(12), images)
    assert (whole.shape, whole.dtype) == (images.shape, images.dtype)
    for part in (slice(0, 6), slice(6, 12), slice(None, None, -2), slice(1, None, 2)):
        np.testing.assert_array_equal(augment(keys(12)[part], images[part]), whole[part])


def erasures(fill, shape=(40, 60, 2), count=1500, probability=0.7):
    """Random erasing of one image: what was filled, and the results."""
    image = positive_image(*shape)
    results = jax.jit(jax.vmap(lambda key: erase(key, image, probability, fill)))(keys(count))
    return np.asarray(results) != image, np.asarray(results)


def sides_by_numpy(count, height, width):
    """Heights and widths of the boxes of Zhong et al., algorithm 1, with ten attempts."""
    rng, sides = np.random.default_rng(0), []
    while len(sides) < count:
        for _ in range(10):
            area = height * width * rng.uniform(0.02, 0.33)
            aspect = np.exp(rng.uniform(np.log(0.3), -np.log(0.3)))
            rows, columns = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
            if rows < height and columns < width:
                sides.append((rows, columns))
                break
    return np.array(sides)


def test_erasing_fills_boxes_of_the_papers_sizes_anywhere():
    filled, results = erasures("mean")
    assert not results[filled].any()
    erased = filled.any((1, 2, 3))
    assert abs(erased.mean() - 0.7) < 5 * np.sqrt(0.21 / len(erased))
    rows, columns = filled[erased].any((2, 3)), filled[erased].any((1, 3))
    box = rows[:, :, None] & columns[:, None, :]
    np.testing.assert_array_equal(
        filled[erased], np.broadcast_to(box[..., None], filled[erased].shape)
    )
    expected = sides_by_numpy(3000, 40, 60)
    for side, by_paper in zip((rows.sum(1), columns.sum(1)), expected.T, strict=True):
        assert stats.ks_2samp(side, by_paper).pvalue > 1e-3
    # Every place of a box is equally likely: the first row over the room for it is uniform.
    room = 40 - rows.sum(1)
    place = (rows.argmax(1) + np.random.default_rng(0).random(len(room))) / (room + 1)
    assert stats.kstest(place, "uniform").pvalue > 1e-3


def test_erasing_by_noise_fills_with_normal_numbers():
    filled, results = erasures("noise", count=100)
    assert stats.kstest(results[filled][::7], "norm").pvalue > 1e-3


def test_erasing_leaves_other_augmentations_as_they_were():
    images = jnp.stack([positive_image(12, 12, 3, seed) for seed in range(30)])
    plain = jax.jit(Augmentation(pad=2, flip=True))(keys(30), images)
    erased = jax.jit(Augmentation(pad=2, flip=True, erase=0.5))(keys(30), images)
    kept = np.asarray(erased != 0)
    np.testing.assert_array_equal(np.where(kept, plain, 0), erased)
    assert 5 < np.any(np.asarray(plain != erased), (1, 2, 3)).sum() < 25
