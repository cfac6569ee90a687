"""Ten-crop evaluation, against crops cut by NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.models import ten_crop_logits, ten_crops


@pytest.mark.parametrize(("height", "width", "size"), [(8, 8, 6), (9, 12, 5), (6, 6, 6)])
def test_crops_are_corners_and_centre_and_their_mirror_images(height, width, size):
    images = np.random.default_rng(0).random((2, height, width, 3)).astype(np.float32)
    top, left = (height - size) // 2, (width - size) // 2
    upright = [
        images[:, :size, :size],
        images[:, :size, -size:],
        images[:, -size:, :size],
        images[:, -size:, -size:],
        images[:, top : top + size, left : left + size],
    ]
    expected = upright + [np.flip(crop, 2) for crop in upright]
    for crop, wanted in zip(ten_crops(jnp.asarray(images), size), expected, strict=True):
        np.testing.assert_array_equal(crop, wanted)


def test_logits_are_the_mean_over_the_crops():
    """The model gives the pixels of a corner, so each crop has logits of its own."""
    images = jnp.arange(2 * 5 * 5 * 1, dtype=jnp.float32).reshape(2, 5, 5, 1)

    def model(crop):
        return crop[:, 0, :2, 0] ** 2

    logits = ten_crop_logits(model, images, 3)
    expected = np.mean([np.asarray(model(crop)) for crop in ten_crops(images, 3)], 0)
    np.testing.assert_allclose(logits, expected, rtol=1e-6)
