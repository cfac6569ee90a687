"""Batches: each epoch is every example once, and a batch depends on (seed, step) alone."""

from dataclasses import replace
from itertools import islice

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_jax.data.augment import Augmentation
from resnet_jax.data.examples import ArrayExamples
from resnet_jax.data.images import Geometry, centre_crop
from resnet_jax.data.on_device import OnDevice, eval_mask
from resnet_jax.data.preprocessing import Preprocessing
from resnet_jax.data.sources import open_source
from resnet_jax.data.stream import HostStream, host_eval_batches
from resnet_jax.random_streams import run_key

counts = st.integers(1, 9)
batch_sizes = st.integers(1, 20)
# An image is then its own pixel values.
PLAIN = Preprocessing((0.0,), (1 / 255,), Augmentation())


def numbered(count):
    """Examples whose label is their number, and whose one pixel is 3 times that."""
    numbers = np.arange(count)
    images = (3 * numbers).astype(np.uint8).reshape(count, 1, 1, 1)
    return ArrayExamples(images, numbers.astype(np.int32))


def ragged_examples(count):
    """Examples of different sizes."""
    rng = np.random.default_rng(0)
    return [
        (rng.integers(0, 256, (10 + i, 30 - i, 3), np.uint8), np.int64(i)) for i in range(count)
    ]


class OneDevice:
    """Holds everything, or computes a share of a batch."""

    num_devices = 1

    def __init__(self, share=None):
        self.share = share

    def replicate(self, tree):
        return jax.tree.map(jnp.asarray, tree)

    def positions(self, batch_size):
        return jnp.arange(batch_size) if self.share is None else self.share


def device_data(examples, batch_size, preprocessing=PLAIN, **options):
    return OnDevice(
        examples,
        examples,
        preprocessing,
        OneDevice(),
        batch_size=batch_size,
        eval_batch_size=1,
        **options,
    )


def compiled(data, seed=0):
    """(window, step) → batch, compiled once."""
    arrays, key = data.train_arrays, run_key(seed)
    return jax.jit(lambda window, step: data.train_batch((window, arrays), step, key))


def device_stream(data, steps, seed=0, batch=None):
    """Labels of steps 0, 1, …; each batch from its own window."""
    batch = batch or compiled(data)
    labels = []
    for step in range(steps):
        result = batch(data.window(step, seed), step)
        np.testing.assert_array_equal(result["image"].ravel(), 3 * result["label"])
        assert np.all(result["mask"])
        labels.append(np.asarray(result["label"]))
    return np.concatenate(labels)


def host_stream(data, steps, seed=0):
    labels = []
    for step in range(steps):
        batch = data.host_batch(step, seed)
        assert (batch["image"].dtype, batch["label"].dtype) == (np.uint8, np.int32)
        np.testing.assert_array_equal(batch["image"].ravel(), 3 * batch["label"])
        labels.append(batch["label"])
    return np.concatenate(labels)


def stream_data(examples, batch_size, **options):
    options = {"geometry": Geometry(None), **options}
    return HostStream(examples, batch_size=batch_size, **options)


def assert_epochs(stream, count):
    """Every whole epoch of a stream of example numbers is every example once."""
    epochs = stream[: len(stream) // count * count].reshape(-1, count)
    assert len(epochs) >= 3
    np.testing.assert_array_equal(np.sort(epochs), np.broadcast_to(np.arange(count), epochs.shape))


@settings(max_examples=10)
@given(counts, batch_sizes, st.integers(0, 2**32 - 1))
def test_device_epochs_are_every_example_once(count, batch_size, seed):
    data = device_data(numbered(count), batch_size=batch_size)
    assert_epochs(device_stream(data, -(-3 * count // batch_size), seed), count)


@given(counts, batch_sizes, st.integers(0, 2**32 - 1))
def test_stream_epochs_are_every_example_once(count, batch_size, seed):
    data = stream_data(numbered(count), batch_size)
    assert_epochs(host_stream(data, -(-3 * count // batch_size), seed), count)


@settings(max_examples=8)
@given(counts, batch_sizes, st.integers(1, 5))
def test_any_window_of_an_epoch_reaches_every_call_of_it(count, batch_size, steps_per_call):
    """The window made at the first step of an epoch serves all calls that begin in it."""
    data = device_data(numbered(count), batch_size=batch_size, steps_per_call=steps_per_call)
    batch = compiled(data)
    steps = 2 * max(1, count // batch_size) + 1
    own = device_stream(data, steps + steps_per_call, 3, batch).reshape(-1, batch_size)
    first_windows = {}
    for start in range(steps):
        window = first_windows.setdefault(data.window_number(start), data.window(start, 3))
        for step in range(start, start + steps_per_call):
            np.testing.assert_array_equal(batch(window, step)["label"], own[step])


@pytest.mark.parametrize(("count", "batch_size"), [(7, 3), (6, 3), (3, 8)])
def test_window_number_is_the_epoch_in_which_a_step_begins(count, batch_size):
    data = device_data(numbered(count), batch_size=batch_size)
    for step in range(12):
        epoch = data.window_number(step)
        assert epoch * count <= step * batch_size < (epoch + 1) * count


@pytest.mark.parametrize("stream", ["device", "host"])
def test_epochs_and_seeds_have_orders_of_their_own(stream):
    count = 40

    def order(seed):
        if stream == "device":
            return device_stream(device_data(numbered(count), batch_size=20), 8, seed)
        return host_stream(stream_data(numbered(count), 20), 8, seed)

    orders = [tuple(epoch) for seed in (0, 1, 2) for epoch in order(seed).reshape(4, count)]
    assert len(set(orders)) == len(orders)
    assert tuple(range(count)) not in orders
    np.testing.assert_array_equal(order(1), order(1))


def test_device_orders_are_uniform():
    """Over 2,000 epochs of three examples all six orders come equally often."""
    data = device_data(numbered(3), batch_size=3, steps_per_call=1999)
    orders = np.asarray(data.window(0, 0)["indices"]).reshape(2000, 3)
    _, frequency = np.unique(orders, axis=0, return_counts=True)
    assert len(frequency) == 6
    assert np.abs(frequency - 2000 / 6).max() < 5 * np.sqrt(2000 / 6)


@pytest.mark.parametrize("seed", [2**31, 2**32 - 1])
def test_large_seeds_work(seed):
    data = device_data(numbered(9), batch_size=9)
    orders = np.asarray(data.window(0, seed)["indices"]).reshape(-1, 9)
    later = data.window(2, seed)["indices"].reshape(-1, 9)
    assert_epochs(np.concatenate([orders, later]).ravel(), 9)
    small = data.window(0, seed - 2**31)["indices"]
    assert not np.array_equal(orders.ravel(), small)


def test_device_batch_far_in_a_long_run():
    """The number of examples seen, 2.56e9 here, is no int32."""
    count, batch_size, start = 5, 128, 20_000_000
    data = device_data(numbered(count), batch_size=batch_size)
    batch = compiled(data)
    labels = [batch(data.window(step, 0), step)["label"] for step in range(start, start + 3)]
    stream = np.concatenate(labels)[-start * batch_size % count :]
    assert_epochs(stream, count)


def test_augmented_batch_is_a_function_of_seed_and_step():
    """The same from new objects, in any order; another seed or step draws other numbers.

    All examples have one image, so that only the augmentation can make batches differ.
    """
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 1), np.uint8)
    examples = ArrayExamples(np.stack([image] * 5), np.arange(5, dtype=np.int32))
    augmented = Preprocessing((0.0,), (1.0,), Augmentation(pad=3, flip=True))

    def batches(seed, steps):
        data = device_data(examples, 4, augmented)
        batch = compiled(data, seed)
        return [np.asarray(batch(data.window(step, seed), step)["image"]) for step in steps]

    forward, backward = batches(0, range(4)), batches(0, range(3, -1, -1))
    np.testing.assert_array_equal(forward, backward[::-1])
    different = [*forward, *batches(1, range(4))]
    assert len({images.tobytes() for images in different}) == 8


def test_shares_of_a_batch_make_up_the_batch():
    """However positions are split over devices, with augmentation."""
    source = open_source("digits")
    preprocessing = Preprocessing((0.3,), (0.4,), Augmentation(pad=2, flip=True, cutout=3))
    data = device_data(source.open("test"), 12, preprocessing)
    arguments = data.window(1, 0), data.train_arrays

    @jax.jit
    def batch(positions):
        share = replace(data, devices=OneDevice(positions))
        made = share.train_batch(arguments, jnp.int32(1), run_key(0))
        return {**made, "key": jax.random.key_data(made["key"])}

    whole = batch(jnp.arange(12))
    for shares in (np.arange(12).reshape(3, 4), np.arange(12).reshape(4, 3).T):
        for share in shares:
            jax.tree.map(
                lambda part, all_, share=share: np.testing.assert_array_equal(part, all_[share]),
                batch(jnp.asarray(share)),
                whole,
            )


def test_normalise_is_the_affine_map_of_the_statistics():
    images = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), np.uint8)
    mean, std = (0.1, 0.5, 0.9), (0.2, 0.3, 0.01)
    result = Preprocessing(mean, std, Augmentation()).normalise(jnp.asarray(images))
    expected = (images.astype(np.float64) / 255 - mean) / std
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-4)


def test_normalised_with_its_own_statistics_a_split_has_mean_0_and_deviation_1():
    images = open_source("digits").open("train").images
    mean, std = images.mean() / 255, images.std() / 255
    result = Preprocessing((mean,), (std,), Augmentation()).normalise(jnp.asarray(images))
    result = np.asarray(result, np.float64)
    np.testing.assert_allclose((result.mean(), result.std()), (0, 1), atol=1e-5)


@pytest.mark.parametrize("random_crop", [True, False])
@pytest.mark.parametrize("start", [0, 1, 5])
def test_host_batches_go_on_exactly_where_asked(start, random_crop):
    """From a new object with another number of threads, over the end of an epoch."""
    options = {"geometry": Geometry(8), "random_crop": random_crop}
    one = stream_data(ragged_examples(7), 3, num_threads=1, **options)
    other = stream_data(ragged_examples(7), 3, num_threads=3, **options)
    for offset, batch in enumerate(islice(one.host_batches(start, 4), 6)):
        expected = other.host_batch(start + offset, 4)
        np.testing.assert_array_equal(batch["label"], expected["label"])
        np.testing.assert_array_equal(batch["image"], expected["image"])


def test_stream_without_random_crops_is_the_centre_crop():
    examples = ragged_examples(7)
    data = stream_data(examples, 7, geometry=Geometry(9, 0.75))
    batch = data.host_batch(0, 0)
    for image, label in zip(batch["image"], batch["label"], strict=True):
        np.testing.assert_array_equal(image, centre_crop(examples[label][0], Geometry(9, 0.75)))


def test_random_crops_differ_between_epochs_and_seeds_but_not_between_calls():
    """Three times the same image: the crops of six epochs under two seeds are all distinct."""
    image = np.random.default_rng(0).integers(0, 256, (30, 30, 3), np.uint8)
    examples = [(image, 0)] * 3

    def crops(seed):
        data = stream_data(examples, 3, geometry=Geometry(8), random_crop=True)
        return np.concatenate([data.host_batch(step, seed)["image"] for step in range(6)])

    both = [crop.tobytes() for seed in (0, 1) for crop in crops(seed)]
    assert len(set(both)) == len(both) == 36
    np.testing.assert_array_equal(crops(0), crops(0))


@given(st.integers(1, 40), st.integers(1, 50))
def test_eval_mask_covers_each_example_once(count, batch_size):
    positions = np.arange(batch_size)
    batches = range(-(-count // batch_size))
    results = [eval_mask(index, positions, batch_size, count) for index in batches]
    indices, mask = (np.concatenate(part) for part in zip(*results, strict=True))
    np.testing.assert_array_equal(indices[mask], np.arange(count))
    assert mask.dtype == bool
    assert indices.min() >= 0
    assert indices.max() < count


@given(counts, batch_sizes)
def test_host_eval_batches_cover_each_example_once_in_order(count, batch_size):
    batches = list(host_eval_batches(numbered(count), Geometry(None), batch_size, 2))
    assert len(batches) == -(-count // batch_size)
    for batch in batches:
        assert batch["image"].shape == (batch_size, 1, 1, 1)
        types = {name: array.dtype for name, array in batch.items()}
        assert types == {"image": np.uint8, "label": np.int32, "mask": np.bool_}
    image, label, mask = (np.concatenate([b[k] for b in batches]) for k in batches[0])
    np.testing.assert_array_equal(label[mask], np.arange(count))
    np.testing.assert_array_equal(image[mask].ravel(), 3 * np.arange(count))
    assert not mask[count:].any()


def test_host_eval_batches_are_centre_crops():
    examples = ragged_examples(7)
    batches = list(host_eval_batches(examples, Geometry(9, 0.75), 4, 3))
    images = np.concatenate([batch["image"] for batch in batches])
    for image, (original, _) in zip(images[:7], examples, strict=True):
        np.testing.assert_array_equal(image, centre_crop(original, Geometry(9, 0.75)))
    np.testing.assert_array_equal(batches[1]["mask"], [True, True, True, False])
