"""Operations of the policies against Pillow, and what the policies draw against their sources."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from scipy import stats

from resnet_jax import random_streams
from resnet_jax.config import override
from resnet_jax.data import colour
from resnet_jax.data.policies import OPERATIONS, RandAugment, TrivialAugmentWide, apply
from resnet_jax.data.preprocessing import POLICIES, make_preprocessing

EACH = 5
FILL = (7, 99, 200)
AMOUNTS = {
    "shear_x": (-1, 1),
    "shear_y": (-1, 1),
    "translate_x": (-30, 30),
    "translate_y": (-30, 30),
    "rotate": (-180, 180),
    "posterize": (1, 8),
    "solarize": (0, 256),
    "solarize_add": (0, 110),
    "brightness": (0, 2),
    "contrast": (0, 2),
    "saturation": (0, 2),
    "sharpness": (0, 2),
}
WHOLE = ("posterize", "solarize_add")


def photo(rng, shape):
    """Smooth shapes and a little noise; a narrow range of values, so that stretching shows."""
    height, width, channels = shape
    small = rng.integers(30, 200, (5, 6, 3), np.uint8)
    large = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))
    noisy = large[..., :channels].astype(int) + rng.integers(-9, 10, shape)
    return np.clip(noisy, 10, 230).astype(np.uint8)


def by_pillow(name, array, amount):
    channels = array.shape[-1]
    image = Image.fromarray(array[..., 0] if channels == 1 else array)
    fill = FILL[0] if channels == 1 else FILL

    def affine(*matrix):
        return image.transform(
            image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=fill
        )

    brighter = [min(255, v + int(amount)) if v < 128 else v for v in range(256)]
    make = {
        "identity": lambda: image,
        "shear_x": lambda: affine(1, amount, 0, 0, 1, 0),
        "shear_y": lambda: affine(1, 0, 0, amount, 1, 0),
        "translate_x": lambda: affine(1, 0, amount, 0, 1, 0),
        "translate_y": lambda: affine(1, 0, 0, 0, 1, amount),
        "rotate": lambda: image.rotate(amount, Image.Resampling.BILINEAR, fillcolor=fill),
        "autocontrast": lambda: ImageOps.autocontrast(image),
        "equalize": lambda: ImageOps.equalize(image),
        "invert": lambda: ImageOps.invert(image),
        "posterize": lambda: ImageOps.posterize(image, int(amount)),
        "solarize": lambda: ImageOps.solarize(image, amount),
        "solarize_add": lambda: image.point(brighter * channels),
        "brightness": lambda: ImageEnhance.Brightness(image).enhance(amount),
        "contrast": lambda: ImageEnhance.Contrast(image).enhance(amount),
        "saturation": lambda: ImageEnhance.Color(image).enhance(amount),
        "sharpness": lambda: ImageEnhance.Sharpness(image).enhance(amount),
    }
    return np.asarray(make[name]()).reshape(array.shape)


SHAPE = (37, 50, 3)


@pytest.mark.parametrize(
    "shape", [SHAPE, pytest.param((28, 28, 1), marks=pytest.mark.slow)], ids=str
)
def test_every_operation_is_pillows(shape):
    """Bilinear values are rounded and not cut, so they differ by one grey level at most."""
    rng = np.random.default_rng(0)
    names = [name for name in OPERATIONS for _ in range(EACH)]
    images = np.stack([photo(rng, shape) for _ in names])
    amounts = np.array([rng.uniform(*AMOUNTS.get(name, (0, 0))) for name in names], np.float32)
    amounts = np.where([name in WHOLE for name in names], np.round(amounts), amounts)
    numbers = np.array([OPERATIONS.index(name) for name in names])
    fill = jnp.array(FILL[: shape[-1]], jnp.uint8)
    actual = jax.jit(jax.vmap(lambda i, o, a: apply(i, o, a, fill)))(images, numbers, amounts)
    assert actual.dtype == jnp.uint8
    for name, image, amount, result in zip(names, images, amounts, actual, strict=True):
        expected = by_pillow(name, image, float(amount))
        error = np.abs(np.asarray(result, int) - expected)
        interpolates = name.startswith(("shear", "translate", "rotate", "autocontrast"))
        assert error.max() <= (1 if interpolates else 0), (name, amount)


@pytest.mark.parametrize("name", ["autocontrast", "equalize"])
def test_one_colour_and_two_colours_are_as_pillow_leaves_them(name):
    flat = np.full((6, 7, 3), 77, np.uint8)
    halves = flat.copy()
    halves[:3] = 200
    table = jax.jit(lambda image: getattr(colour, name)(colour.histogram(image)))
    for image in (flat, halves):
        result = colour.look_up(jnp.asarray(image), table(image))
        np.testing.assert_array_equal(result, by_pillow(name, image, 0.0))


def test_zero_bits_are_black():
    assert not np.any(colour.posterize(jnp.float32(0)))


shift_hue = jax.jit(colour.shift_hue)


@pytest.mark.parametrize("turns", [-0.5, -0.1, 0.0, 0.07, 0.4])
def test_hue_is_that_of_colorsys(turns):
    image = np.random.default_rng(1).integers(0, 256, (9, 8, 3), np.uint8)
    image[0, :4] = [[0, 0, 0], [255, 255, 255], [90, 90, 90], [255, 0, 0]]

    def one(pixel):
        h, s, v = colorsys.rgb_to_hsv(*(pixel / 255))
        return 255 * np.array(colorsys.hsv_to_rgb((h + turns) % 1, s, v))

    expected = np.apply_along_axis(one, -1, image)
    actual = np.asarray(shift_hue(image, turns), float)
    assert np.abs(actual - expected).max() <= 0.51
    np.testing.assert_array_equal(shift_hue(image[..., :1], turns), image[..., :1])


def drawn(policy, count=6000, **arguments):
    keys = jax.random.split(jax.random.key(3), count)
    operations, amounts = jax.jit(jax.vmap(lambda key: policy.draw(key, **arguments)))(keys)
    names = np.array(OPERATIONS)[np.asarray(operations)]
    return names, np.asarray(amounts)


def assert_equally_often(names, expected):
    found, counts = np.unique(names, return_counts=True)
    assert set(found) == set(expected)
    assert stats.chisquare(counts).pvalue > 1e-4


def test_rand_augment_draws_timms_operations_at_its_magnitudes():
    """Amounts at magnitude 7 by timm's `LEVEL_TO_ARG`, with height 40 and width 60."""
    names, amounts = drawn(RandAugment((0, 0, 0), magnitude=7), shape=(40, 60, 3))
    factor = (1 - 0.63, 1 + 0.63)
    expected = {
        "autocontrast": (0,),
        "equalize": (0,),
        "invert": (0,),
        "rotate": (-21, 21),
        "posterize": (4 - 2,),
        "solarize": (256 - 179,),
        "solarize_add": (77,),
        "saturation": factor,
        "contrast": factor,
        "brightness": factor,
        "sharpness": factor,
        "shear_x": (-0.21, 0.21),
        "shear_y": (-0.21, 0.21),
        "translate_x": (-18.9, 18.9),
        "translate_y": (-12.6, 12.6),
    }
    assert_equally_often(names, expected)
    for name, values in expected.items():
        own = amounts[names == name]
        np.testing.assert_allclose(np.unique(own), np.unique(np.float32(values)), rtol=1e-5)
        if len(values) == 2:
            assert abs((own > np.mean(values)).mean() - 0.5) < 5 * 0.5 / np.sqrt(len(own))


def test_rand_augment_skips_and_varies_the_magnitude():
    policy = RandAugment((0, 0, 0), magnitude=9.5, deviation=0.5, probability=0.5)
    names, amounts = drawn(policy, shape=(40, 60, 3))
    # Identity is none of the operations: it stands for a draw that was skipped.
    assert abs((names == "identity").mean() - 0.5) < 5 * 0.5 / np.sqrt(len(names))
    magnitudes = np.abs(amounts[names == "rotate"]) / 3
    assert magnitudes.max() == pytest.approx(10)
    below = magnitudes[magnitudes < 9.99]
    clipped = stats.truncnorm(-np.inf, 0.98, loc=9.5, scale=0.5)
    assert stats.kstest(below, clipped.cdf).pvalue > 1e-4
    assert (magnitudes > 9.99).mean() == pytest.approx(1 - stats.norm.cdf(1), abs=0.15)


def test_trivial_augment_draws_the_wide_space():
    names, amounts = drawn(TrivialAugmentWide())
    signed = lambda values: np.unique([values, -values])  # noqa: E731
    steps = np.arange(31) / 30
    factor = 1 + signed(0.99 * steps)
    expected = {
        "identity": np.zeros(1),
        "shear_x": signed(0.99 * steps),
        "shear_y": signed(0.99 * steps),
        "translate_x": signed(np.arange(31) * 32 // 30),
        "translate_y": signed(np.arange(31) * 32 // 30),
        "rotate": signed(135 * steps),
        "brightness": factor,
        "saturation": factor,
        "contrast": factor,
        "sharpness": factor,
        "posterize": np.arange(2, 9),
        "solarize": 255 * steps,
        "autocontrast": np.zeros(1),
        "equalize": np.zeros(1),
    }
    assert_equally_often(names, expected)
    for name, values in expected.items():
        own = np.sort(amounts[names == name])
        nearest = np.abs(own[:, None] - values).min(1)
        assert nearest.max() < 1e-4, name
        ends = own[[0, -1]], values[[0, -1]]
        np.testing.assert_allclose(*ends, atol=1e-4, err_msg=name)


def test_layers_are_applied_in_turn():
    image = photo(np.random.default_rng(2), (24, 30, 3))
    policy = RandAugment(FILL, layers=3, magnitude=6)
    expected, key = image, jax.random.key(5)
    draw = jax.jit(jax.vmap(lambda key: policy.draw(key, image.shape)))
    for operation, amount in zip(*draw(jax.random.split(key, 3)), strict=True):
        expected = by_pillow(OPERATIONS[int(operation)], expected, float(amount))
    actual = np.asarray(jax.jit(policy)(key, image), int)
    # A grey level of difference may grow in the operations after it.
    assert np.abs(actual - expected).mean() < 1
    assert not np.array_equal(actual, image)


def test_jitter_draws_factors_evenly_and_turns_each_knob():
    """On grey, brightness shows its factor, and on red hue its turn."""
    keys = jax.random.split(jax.random.key(0), 2000)
    image = np.full((2, 2, 3), 100, np.uint8)
    jitter = colour.ColourJitter(brightness=0.4, hue=0.1)
    results = jax.jit(jax.vmap(jitter, (0, None)))(keys, image)
    factors = (np.asarray(results)[:, 0, 0, 0] + 0.5) / 100
    assert stats.kstest(factors, stats.uniform(0.6, 0.8).cdf).statistic < 0.04
    red = np.zeros((2, 2, 3), np.uint8) + np.array([180, 0, 0], np.uint8)
    results = np.asarray(jax.jit(jax.vmap(jitter, (0, None)))(keys, red))[:, 0, 0]
    turns = (np.array([colorsys.rgb_to_hsv(*pixel)[0] for pixel in results]) + 0.5) % 1 - 0.5
    assert stats.kstest(turns, stats.uniform(-0.1, 0.2).cdf).statistic < 0.04


def test_jitter_is_pillows_enhancements_in_every_order():
    """Brightness 1 and contrast 1 allow factors from 0 to 2; the order changes what is cut at 255."""
    jitter = colour.ColourJitter(brightness=1, contrast=1, saturation=1)
    image = photo(np.random.default_rng(4), (12, 15, 3))
    keys = jax.random.split(jax.random.key(1), 40)
    results = jax.jit(jax.vmap(jitter, (0, None)))(keys, image)
    orders = set()
    for key, result in zip(keys, np.asarray(results), strict=True):
        order_key, factor_key, _ = jax.random.split(key, 3)
        factors = 2 * np.asarray(jax.random.uniform(factor_key, (3,)))
        order = [int(i) for i in jax.random.permutation(order_key, 4) if i < 3]
        orders.add(tuple(order))
        expected = image
        for which in order:
            name = ("brightness", "contrast", "saturation")[which]
            expected = by_pillow(name, expected, float(factors[which]))
        np.testing.assert_array_equal(result, expected)
    assert len(orders) == 6


def test_pca_noise_has_the_covariance_of_its_components():
    keys = jax.random.split(jax.random.key(0), 20000)
    shifts = np.asarray(jax.jit(jax.vmap(colour.pca_noise, (0, None)))(keys, 0.1))
    values, vectors = np.linalg.eigh(np.cov(shifts.T))
    np.testing.assert_allclose(np.sqrt(values[::-1]), [0.02175, 0.00188, 0.00045], rtol=0.05)
    # The first component is nearly grey: all colours shift together.
    np.testing.assert_allclose(np.abs(vectors[:, 2]), [0.5675, 0.5808, 0.5836], atol=0.01)


def distorted(config, **fields):
    """A batch of four noisy images after the distortions of these fields, as 0 to 255."""
    changed = {f"data.{name}": value for name, value in fields.items()}
    config = override(config, {"data.pad": 0} | changed)
    preprocessing = make_preprocessing(config, (0.5,) * 3, (1 / 255,) * 3)
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    positions, key = jnp.arange(4), random_streams.run_key(5)
    batch = jax.jit(
        lambda: preprocessing.train_batch(images, positions, key, jnp.int32(7), 4, positions)
    )()
    return images, np.asarray(batch["image"]) + 127.5


def keys_of(stream):
    key = random_streams.stream_key(random_streams.run_key(5), random_streams.COLOUR, 7)
    return jax.vmap(jax.random.fold_in, (0, None))(jax.random.split(key, 4), stream)


def noise(key, image):
    return image ^ jax.random.bits(key, image.shape, jnp.uint8)


def test_each_distortion_has_a_random_stream_of_its_own(small_config, monkeypatch):
    """A policy draws the same beside a jitter, and PCA noise whatever policies there are."""
    monkeypatch.setitem(POLICIES, "noise", lambda data, mean: noise)
    images, alone = distorted(small_config, policy="noise")
    np.testing.assert_array_equal(alone, jax.vmap(noise)(keys_of(0), images))
    # So small a hue changes nothing.
    _, beside = distorted(small_config, policy="noise", hue=1e-7)
    np.testing.assert_array_equal(beside, alone)
    shifts = jax.vmap(colour.pca_noise, (0, None))(keys_of(3), 0.1)[:, None, None]
    _, noisy = distorted(small_config, pca_noise=0.1)
    np.testing.assert_allclose(noisy, images + 255 * np.asarray(shifts), atol=1e-3)
