"""Mixup and cutmix: their shares, boxes and partners."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from resnet_jax.data.mixing import Mixing, symmetric_beta


def pairs(count, size):
    """Keys; zeros at even positions, ones at odd ones; labels are positions."""
    value = jnp.arange(2 * count) % 2
    images = jnp.broadcast_to(value[:, None, None, None], (2 * count, *size, 1)).astype(jnp.float32)
    return jax.random.split(jax.random.key(0), 2 * count), images, jnp.arange(2 * count)


@pytest.mark.parametrize("alpha", [0.1, 0.4, 1.0, 3.0])
def test_symmetric_beta_is_beta_distributed(alpha):
    keys = jax.random.split(jax.random.key(0), 20000)
    sample = np.asarray(jax.jit(jax.vmap(symmetric_beta, (0, None)))(keys, alpha), float)
    assert np.all((sample >= 0) & (sample <= 1))
    # float32 has no numbers just below 1: they are counted by their distance from 0.
    near = sample[sample < 0.5]
    assert abs(len(near) / len(sample) - 0.5) < 0.02
    beta = stats.beta(alpha, alpha)
    assert stats.kstest(near, lambda x: 2 * beta.cdf(x)).pvalue > 1e-3
    far = 1 - sample[sample >= 0.5]
    assert stats.ks_2samp(np.round(near, 6), np.round(far, 6)).pvalue > 1e-3


def test_mixups_share_is_beta_distributed_and_is_that_of_the_pixels():
    alpha = 0.2
    keys, images, labels = pairs(1500, (2, 2))
    mixed, others, shares = jax.jit(Mixing(mixup=alpha))(keys, images, labels)
    np.testing.assert_array_equal(others, np.arange(3000) ^ 1)
    from_partner = np.abs(np.asarray(mixed) - images).mean((1, 2, 3))
    np.testing.assert_allclose(from_partner, shares, atol=1e-6)
    assert stats.kstest(np.asarray(shares, float), stats.beta(alpha, alpha).cdf).pvalue > 1e-3
    # The two images of a pair draw for themselves.
    assert abs(np.corrcoef(shares[::2], shares[1::2])[0, 1]) < 0.12


def box(mixed, image):
    """(top, bottom, left, right) of the pixels that differ; they must fill it."""
    rows, columns = np.nonzero(np.asarray(mixed != image)[..., 0])
    if not len(rows):
        return 0, 0, 0, 0
    edges = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    assert len(rows) == (edges[1] - edges[0]) * (edges[3] - edges[2])
    return edges


def shares_by_numpy(count, alpha, height, width):
    """Shares of boxes cut at the edges, by the paper's algorithm."""
    rng = np.random.default_rng(0)
    side, sides = np.sqrt(1 - rng.beta(alpha, alpha, count)), []
    for length in (height, width):
        size = np.floor(length * side).astype(int)
        start = rng.integers(0, length, count) - size // 2
        sides.append(np.clip(start + size, 0, length) - np.clip(start, 0, length))
    return sides[0] * sides[1] / (height * width)


def test_cutmix_puts_a_box_of_the_partner_and_counts_its_pixels():
    height, width = 40, 60
    keys, images, labels = pairs(500, (height, width))
    mixed, others, shares = map(np.asarray, jax.jit(Mixing(cutmix=1.0))(keys, images, labels))
    np.testing.assert_array_equal(others, np.arange(1000) ^ 1)
    boxes = np.array([box(m, i) for m, i in zip(mixed, np.asarray(images), strict=True)])
    heights, widths = boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2]
    np.testing.assert_allclose(heights * widths / (height * width), shares, rtol=1e-6)
    inner = (boxes[:, 0] > 0) & (boxes[:, 1] < height) & (boxes[:, 2] > 0) & (boxes[:, 3] < width)
    assert inner.sum() > 50
    # Sides are the same share of height and width, but for whole pixels.
    np.testing.assert_allclose(heights[inner] / height, widths[inner] / width, atol=1 / height)
    expected = shares_by_numpy(4000, 1.0, height, width)
    assert stats.ks_2samp(shares, expected).pvalue > 1e-3


def test_both_are_each_taken_half_of_the_time_and_a_part_is_mixed_as_in_the_whole():
    mix = jax.jit(Mixing(mixup=1.0, cutmix=1.0))
    keys, images, labels = pairs(400, (6, 6))
    whole = mix(keys, images, labels)
    mixed, shares = np.asarray(whole[0]), whole[2]
    np.testing.assert_allclose(np.abs(mixed - images).mean((1, 2, 3)), shares, atol=1e-6)
    partly = np.any((mixed > 0) & (mixed < 1), (1, 2, 3))
    assert abs(partly.mean() - 0.5) < 5 * 0.5 / np.sqrt(len(partly))
    for part in (slice(0, 400), slice(202, 602)):
        for a, b in zip(mix(keys[part], images[part], labels[part]), whole, strict=True):
            np.testing.assert_array_equal(a, b[part])


@pytest.mark.parametrize(("repeats", "group"), [(1, 2), (2, 4), (3, 8), (4, 8), (5, 16)])
def test_repeated_images_are_not_mixed_with_themselves(repeats, group):
    mixing = Mixing(mixup=0.2, repeats=repeats)
    assert mixing.group == group
    positions = np.arange(3 * group)
    partners = np.asarray(mixing._partners(jnp.asarray(positions)))
    np.testing.assert_array_equal(partners[partners], positions)
    np.testing.assert_array_equal(partners // group, positions // group)
    # Wherever in the batch the row of an image begins.
    for start in range(repeats):
        assert np.all((positions + start) // repeats != (partners + start) // repeats)
