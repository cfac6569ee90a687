"""The cache, against direct reading and numpy; nothing is recomputed and nothing half-written."""

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_files import encoded, scene, write_folder

from resnet_jax.data import cache, content
from resnet_jax.data.channels import channel_statistics
from resnet_jax.data.decoding import pixels
from resnet_jax.data.examples import ArrayExamples
from resnet_jax.data.images import Geometry, centre_crop
from resnet_jax.data.sources import open_source
from resnet_jax.data.stream import HostStream, host_eval_batches
from resnet_jax.errors import UserError


def decode(source, split, directory, image_size=None, crop_fraction=1.0, num_threads=2):
    return cache.decoded(
        source,
        split,
        Geometry(image_size, crop_fraction),
        directory=directory,
        num_threads=num_threads,
    )


def statistics(source, split, directory, examples, image_size=None, crop_fraction=1.0):
    geometry = Geometry(image_size, crop_fraction)
    return cache.statistics(source, split, geometry, examples, directory=directory)


def assert_same(examples, images, labels):
    np.testing.assert_array_equal(examples.images, images)
    np.testing.assert_array_equal(examples.labels, labels)
    assert examples.images.dtype == np.uint8
    assert examples.labels.dtype == np.int32


def read(source, split):
    examples = source.open(split)
    images, labels = zip(*(examples[index] for index in range(len(examples))), strict=True)
    return [pixels(image) for image in images], labels


@pytest.fixture
def fashion_copy(fashion_data_dir, tmp_path):
    """The tiny Fashion-MNIST in a directory that a test may remove."""
    data_dir = tmp_path / "tfds"
    shutil.copytree(fashion_data_dir, data_dir)
    return open_source("fashion_mnist", str(data_dir)), data_dir


@pytest.mark.parametrize("split", ["train", "test", "train[3:9]", "train+test"])
def test_decoded_equals_direct_reading(fashion, tmp_path, split):
    images, labels = read(fashion, split)
    for _ in range(2):
        assert_same(decode(fashion, split, tmp_path), np.stack(images), labels)


@pytest.mark.parametrize(("size", "fraction"), [(16, 1.0), (20, 0.875), (7, 0.5)])
def test_decoded_images_of_many_sizes_are_cropped(ragged, tmp_path, size, fraction):
    images, labels = read(ragged, "validation")
    expected = np.stack([centre_crop(image, Geometry(size, fraction)) for image in images])
    for num_threads in (1, 4):
        directory = tmp_path / str(num_threads)
        examples = decode(ragged, "validation", directory, size, fraction, num_threads)
        assert_same(examples, expected, labels)


def test_second_call_reads_the_file(fashion, tmp_path, monkeypatch):
    first = decode(fashion, "train", tmp_path)
    monkeypatch.setattr(cache, "read_images", None)
    assert_same(decode(fashion, "train", tmp_path), first.images, first.labels)


def test_every_split_size_and_crop_has_a_file_of_its_own(ragged, fashion, tmp_path):
    """What a shared directory returns, again, is what an empty directory returns."""
    wanted = [
        (fashion, split, size, fraction)
        for split in ("train", "test", "train[:50%]", "train[50%:]", "train[:5]", "train[-5:]")
        for size, fraction in ((None, 1.0), (None, 0.5), (28, 0.5), (28, 1.0), (14, 0.875))
    ]
    wanted += [
        (ragged, "validation", size, fraction) for size in (8, 9) for fraction in (0.5, 0.51)
    ]
    for _ in range(2):
        for number, (source, *key) in enumerate(wanted):
            alone = decode(source, key[0], tmp_path / str(number), *key[1:])
            shared = decode(source, key[0], tmp_path / "shared", *key[1:])
            assert_same(shared, alone.images, alone.labels)


def test_crop_fraction_without_a_size_does_nothing(fashion, tmp_path):
    examples = decode(fashion, "test", tmp_path, None, 0.5)
    np.testing.assert_array_equal(examples.images, np.stack(read(fashion, "test")[0]))


def test_image_shape(ragged, fashion):
    assert cache.image_shape(fashion, None) == (28, 28, 1)
    assert cache.image_shape(fashion, 14) == (14, 14, 1)
    assert cache.image_shape(ragged, 24) == (24, 24, 3)


def test_images_of_many_sizes_need_a_size(ragged, tmp_path):
    with pytest.raises(UserError, match="data.image_size = None: .*ragged differ in size"):
        decode(ragged, "validation", tmp_path)
    assert not list(tmp_path.iterdir())


def folder_of_sizes(tmp_path, odd=None, count=100):
    """PNG images of 6×5 pixels, but for one, which no probe looks at."""
    files = {f"train/a/{i:03d}.png": encoded(scene(5, 6, i), "PNG") for i in range(count)}
    if odd is not None:
        files[f"train/a/{odd:03d}.png"] = encoded(scene(1, 1), "PNG")
    files["val/a/0.png"] = encoded(scene(5, 6), "PNG")
    return open_source(f"folder:{write_folder(tmp_path / 'set', files)}")


def test_images_of_one_size_need_no_size(tmp_path):
    source = folder_of_sizes(tmp_path, count=5)
    assert cache.image_shape(source, None) == (5, 6, 3)
    examples = decode(source, "train", tmp_path / "cache")
    np.testing.assert_array_equal(examples.images, [scene(5, 6, i) for i in range(5)])
    batch = HostStream(source.open("train"), Geometry(None), batch_size=5).host_batch(0, 0)
    assert batch["image"].shape == (5, 5, 6, 3)


def test_one_image_of_another_size_among_many_is_named(tmp_path):
    """It has one pixel, which numpy would spread over all of an image."""
    source = folder_of_sizes(tmp_path, odd=50)
    shape = cache.image_shape(source, None)
    examples = source.open("train")
    stream = HostStream(examples, Geometry(None), batch_size=50, shape=shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "PROBED", 200)
        with pytest.raises(UserError, match="folder:.* differ in size: .*050.png is 1×1 pixels"):
            cache.image_shape(folder_of_sizes(tmp_path, odd=50), None)
    for read in (
        lambda: decode(source, "train", tmp_path / "cache"),
        lambda: [stream.host_batch(step, 0) for step in range(2)],
        lambda: list(host_eval_batches(examples, Geometry(None), 50, 2, shape=shape)),
        lambda: list(host_eval_batches(examples, Geometry(None), 50, 2)),
        lambda: list(host_eval_batches(source.open("val"), Geometry(None), 5, 2, shape=(7, 7, 3))),
    ):
        with pytest.raises(UserError, match=r"data.image_size = None: .* differ in size") as caught:
            read()
        assert caught.value.fix == "set it to a number of pixels"
    # With a size, all are read.
    assert len(decode(source, "train", tmp_path / "cache", 4)) == 100


@given(
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(0, 2**32),
)
def test_channel_statistics_are_those_of_all_pixels(count, height, width, channels, seed):
    rng = np.random.default_rng(seed)
    low, high = sorted(rng.integers(0, 257, 2))
    images = rng.integers(low, max(high, low + 1), (count, height, width, channels), np.uint8)
    mean, std = channel_statistics(images)
    pixels = images.reshape(-1, channels).astype(np.float64) / 255
    np.testing.assert_allclose(mean, pixels.mean(0), rtol=1e-12, atol=1e-15)
    floor = max(0.01, pixels.std(0).max() / 10)
    np.testing.assert_allclose(std, np.maximum(pixels.std(0), floor), rtol=1e-10)
    shuffled = channel_statistics(images[::-1])
    np.testing.assert_array_equal(shuffled, (mean, std))


def test_statistics_of_digits(tmp_path):
    source = open_source("digits")
    examples = source.open("train")
    pixels = examples.images.astype(np.float64) / 255
    for _ in range(2):
        mean, std = statistics(source, "train", tmp_path, examples)
        np.testing.assert_allclose(mean, [pixels.mean()], rtol=1e-12)
        np.testing.assert_allclose(std, [pixels.std()], rtol=1e-10)


def test_statistics_are_kept(tmp_path):
    """The second call returns what the file says."""
    source = open_source("digits")
    statistics(source, "train", tmp_path, source.open("train"))
    (path,) = tmp_path.iterdir()
    kept = {"mean": [0.25], "std": [0.125]}
    path.write_text(json.dumps(kept | {"digest": content.of_facts(kept)}))
    kept = statistics(source, "train", tmp_path, source.open("train"))
    assert kept == ((0.25,), (0.125,))


def test_statistics_are_of_the_pixels_that_are_trained_on(ragged, fashion, tmp_path):
    """Other splits, sizes and crops in the same directory do not matter."""
    wanted = [
        (fashion, split, size, fraction)
        for split in ("train", "train[:50%]", "train[50%:]", "test")
        for size, fraction in ((None, 1.0), (28, 0.5), (14, 1.0))
    ]
    wanted += [(ragged, "validation", size, 1.0) for size in (8, 20)]
    for source, split, size, fraction in wanted:
        examples = decode(source, split, tmp_path, size, fraction)
        mean, std = statistics(source, split, tmp_path, examples)
        pixels = examples.images.astype(np.float64) / 255
        np.testing.assert_allclose(mean, pixels.mean((0, 1, 2)), rtol=1e-12)
        np.testing.assert_allclose(std, pixels.std((0, 1, 2)), rtol=1e-10)


def test_statistics_of_undecoded_examples(ragged, tmp_path):
    """Nine images are fewer than the sample, so every pixel counts, whatever the size."""
    images, _ = read(ragged, "validation")
    pixels = np.concatenate([image.reshape(-1, 3) for image in images]).astype(np.float64) / 255
    for _ in range(2):
        examples = ragged.open("validation")
        mean, std = statistics(ragged, "validation", tmp_path, examples)
        np.testing.assert_allclose(mean, pixels.mean(0), rtol=1e-12)
        np.testing.assert_allclose(std, pixels.std(0), rtol=1e-10)


def test_sampled_statistics_are_of_evenly_spaced_images(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "STATISTICS_SAMPLE", 5)
    values = np.array([0, 200, 10, 201, 30, 202, 70, 203, 150], np.uint8)
    examples = [(np.full((1, 1, 1), value), 0) for value in values]
    mean, std = statistics(open_source("digits"), "train", tmp_path, examples)
    sample = values[::2] / 255
    np.testing.assert_allclose((mean[0], std[0]), (sample.mean(), sample.std()), rtol=1e-12)


def test_decoded_and_sampled_statistics_do_not_mix(fashion, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "STATISTICS_SAMPLE", 2)
    sampled = statistics(fashion, "train", tmp_path, fashion.open("train"))
    exact = statistics(fashion, "train", tmp_path, decode(fashion, "train", tmp_path))
    again = statistics(fashion, "train", tmp_path, fashion.open("train"))
    assert sampled == again
    assert sampled != exact


def test_statistics_of_a_stream_are_those_of_its_decoded_images(ragged, fashion, tmp_path):
    """Resized and cropped, as the network sees them: equal, to the last digit."""
    wanted = [
        (fashion, "train", None, 1.0),
        (fashion, "train", 20, 0.8),
        (ragged, "validation", 8, 1.0),
        (ragged, "validation", 20, 0.5),
        (open_source("digits"), "train", 5, 0.875),
    ]
    for source, split, size, fraction in wanted:
        of_decoded = statistics(
            source, split, tmp_path, decode(source, split, tmp_path, size, fraction)
        )
        of_stream = statistics(source, split, tmp_path, source.open(split), size, fraction)
        assert of_stream == of_decoded
    geometry = Geometry(8, interpolation="nearest")
    examples = ragged.open("validation")
    nearest = cache.statistics(ragged, "validation", geometry, examples, directory=tmp_path)
    assert nearest != statistics(ragged, "validation", tmp_path, examples, 8)


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_a_channel_that_is_nearly_constant_stays_small(share):
    """A level of it counts at most ten times as much as one of the channel that varies most."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 8, 8, 3)).astype(np.uint8)
    images[..., 2] = rng.random((20, 8, 8)) < share
    mean, std = channel_statistics(images)
    assert std[2] == max(std[:2]) / 10
    assert np.abs((1 - mean[2]) / std[2]) < 50
    grey = np.full((3, 8, 8, 1), 7, np.uint8)
    assert channel_statistics(grey)[1] == 0.01


def with_other_bytes(data_dir):
    """The same names, sizes and times; another byte, which decodes to other pixels."""
    for path in data_dir.rglob("*.bmp"):
        times = path.stat().st_mtime_ns
        changed = bytearray(path.read_bytes())
        changed[-1] ^= 0xFF
        path.write_bytes(changed)
        os.utime(path, ns=(times, times))


def test_what_counts_is_the_content_of_a_folder(tmp_path):
    names = {f"train/{c}/{i}.bmp": encoded(scene(8, 8, i), "BMP") for c in "ab" for i in range(2)}
    folder = write_folder(tmp_path / "pets", names)
    name, directory = f"folder:{folder}", tmp_path / "cache"
    first = decode(open_source(name), "train", directory)
    digest = open_source(name).content("train")
    for path in folder.rglob("*.bmp"):
        os.utime(path, (1, 1))
    folder.rename(tmp_path / "moved")
    moved = open_source(f"folder:{tmp_path}/moved")
    assert moved.content("train") == digest
    with_other_bytes(tmp_path / "moved")
    changed = open_source(f"folder:{tmp_path}/moved")
    second = decode(changed, "train", directory)
    assert changed.content("train") != digest
    assert np.all((second.images != first.images).any((1, 2, 3)))
    # Class names swap, so labels do.
    (tmp_path / "moved/train/a").rename(tmp_path / "moved/train/c")
    swapped = decode(open_source(f"folder:{tmp_path}/moved"), "train", directory)
    np.testing.assert_array_equal(swapped.images, second.images[[2, 3, 0, 1]])
    assert swapped.labels.tolist() == [0, 0, 1, 1]


def test_what_counts_is_the_content_of_a_tfds_set(fashion_copy, tmp_path, build_tfds):
    """Relabelled, with the same version and a dataset_info.json that says the same."""
    import tensorflow_datasets as tfds
    from PIL import Image

    images = [Image.fromarray(np.full((4, 4), i, np.uint8)) for i in range(12)]
    features = {
        "image": tfds.features.Image(shape=(4, 4, 1), encoding_format="png"),
        "label": tfds.features.ClassLabel(names=["a", "b", "c"]),
    }
    data_dir, found, digests = tmp_path / "set", [], []
    for shift in (0, 1):
        examples = [{"image": image, "label": (i + shift) % 3} for i, image in enumerate(images)]
        shutil.rmtree(data_dir, ignore_errors=True)
        data_dir.mkdir()
        build_tfds("counted", data_dir, features, "train", examples)
        source = open_source("counted", str(data_dir))
        for split in ("train", "train[2:7]", "train[7:]+train[:2]"):
            decoded = decode(source, split, tmp_path / "cache")
            expected_images, expected_labels = read(source, split)
            assert_same(decoded, np.stack(expected_images), expected_labels)
            digests.append(source.content(split))
        found.append(decode(source, "train", tmp_path / "cache").labels)
    np.testing.assert_array_equal(found[1], (found[0] + 1) % 3)
    assert len(set(digests)) == 6


def test_decoding_of_another_version_is_not_read(tmp_path, monkeypatch):
    source = open_source("digits")
    decode(source, "test", tmp_path)
    monkeypatch.setattr(cache, "VERSION", cache.VERSION + 1)
    decode(source, "test", tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_corrupt_file_is_written_again(tmp_path, data):
    source = open_source("digits")
    examples = source.open("test")
    expected = statistics(source, "test", tmp_path, decode(source, "test", tmp_path))
    for path in tmp_path.iterdir():
        changed = bytearray(path.read_bytes())
        places = st.integers(0, len(changed) - 1)
        if data.draw(st.booleans()):
            changed = changed[: data.draw(places)]
        else:
            for place in data.draw(st.lists(places, max_size=3)):
                changed[place] ^= data.draw(st.integers(1, 255))
        path.write_bytes(changed)
    decoded = decode(source, "test", tmp_path)
    assert_same(decoded, examples.images, examples.labels)
    assert decode(source, "test", tmp_path).images.shape == (360, 8, 8, 1)
    assert statistics(source, "test", tmp_path, decoded) == expected


def test_failing_source_leaves_nothing_behind(fashion_copy, tmp_path):
    source, data_dir = fashion_copy
    shutil.rmtree(data_dir)
    with pytest.raises(Exception, match="fashion_mnist"):
        decode(source, "train", tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*"))


@pytest.mark.parametrize("limit", [0, 10, 1000])
def test_full_disk_is_a_user_error_and_leaves_nothing_behind(tmp_path, limit):
    """No file may grow over `limit` bytes. Statistics are so short that only closing writes them."""
    resource = pytest.importorskip("resource")
    source = open_source("digits")
    examples = source.open("test")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    try:
        with pytest.raises(UserError, match="RESNET_JAX_CACHE"):
            decode(source, "test", tmp_path)
        if limit <= 10:
            with pytest.raises(UserError, match="RESNET_JAX_CACHE"):
                statistics(source, "test", tmp_path, examples)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert not list(tmp_path.iterdir())
    assert_same(decode(source, "test", tmp_path), examples.images, examples.labels)


def test_failing_rename_leaves_nothing_behind(tmp_path):
    source = open_source("digits")
    decode(source, "test", tmp_path)
    (path,) = tmp_path.iterdir()
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        decode(source, "test", tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_only_whole_files_are_left(tmp_path):
    source = open_source("digits")
    statistics(source, "test", tmp_path, decode(source, "test", tmp_path))
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".npz"]


def test_directory_that_cannot_be_made_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    source = open_source("digits")
    for directory in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match="data.cache_dir") as caught:
            decode(source, "test", directory)
        assert caught.value.value == str(directory)
        with pytest.raises(UserError, match="data.cache_dir"):
            statistics(source, "test", directory, source.open("test"))


def test_cache_directory_is_the_configured_then_the_environments_then_the_default(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("RESNET_JAX_CACHE", "/from/environment")
    assert cache.cache_directory("~/configured") == Path("/home/ada/configured")
    assert cache.cache_directory() == Path("/from/environment")
    monkeypatch.setenv("RESNET_JAX_CACHE", "")
    assert cache.cache_directory() == Path("/home/ada/.cache/resnet_jax")
    monkeypatch.delenv("RESNET_JAX_CACHE")
    assert cache.cache_directory(None) == Path("/home/ada/.cache/resnet_jax")


def test_examples_are_pairs():
    examples = ArrayExamples(np.arange(12, dtype=np.uint8).reshape(3, 2, 2, 1), np.array([5, 6, 7]))
    image, label = examples[1]
    np.testing.assert_array_equal(image[..., 0], [[4, 5], [6, 7]])
    assert (label, type(label), len(examples)) == (6, int, 3)


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_a_cut_or_flipped_file_is_decoded_again(tmp_path, suffix):
    source = open_source("digits")
    examples = source.open("test")
    expected = statistics(source, "test", tmp_path, decode(source, "test", tmp_path))
    (path,) = tmp_path.glob(f"*{suffix}")
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    changed = [whole[:0], whole[:9], whole[: len(whole) // 2], whole[:-1]]
    for place in rng.integers(len(whole), size=20):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << rng.integers(8)
        changed.append(bytes(flipped))
    for content_now in changed:
        path.write_bytes(content_now)
        again = decode(source, "test", tmp_path)
        assert_same(again, examples.images, examples.labels)
        assert statistics(source, "test", tmp_path, again) == expected


def test_what_is_no_file_is_decoded_again(tmp_path):
    source = open_source("digits")
    examples = source.open("test")
    decode(source, "test", tmp_path)
    (path,) = tmp_path.iterdir()
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        path.unlink()
        make(path)
        assert_same(decode(source, "test", tmp_path), examples.images, examples.labels)
        assert path.is_file()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_cache_of_somebody_else_is_no_obstacle(tmp_path, monkeypatch, capsys, number):
    """It may neither be read nor written, which one line says."""
    source = open_source("digits")
    examples = source.open("test")
    decode(source, "test", tmp_path)

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(cache, "open_file", refuse)
    monkeypatch.setattr(cache, "replaced", refuse)
    capsys.readouterr()
    for _ in range(2):
        found = decode(source, "test", tmp_path)
        assert_same(found, examples.images, examples.labels)
        statistics(source, "test", tmp_path, found)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"cannot be written ({os.strerror(number)}): nothing is kept")


def test_files_have_the_mode_of_the_umask(tmp_path):
    old = os.umask(0o022)
    try:
        decode(open_source("digits"), "test", tmp_path)
    finally:
        os.umask(old)
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o777 == 0o644
