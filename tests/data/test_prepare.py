"""Preparing Fashion-MNIST from its four files, and everything that can be wrong with them."""

import contextlib
import gzip
import importlib.util

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resnet_jax.data.prepare import prepare, read_idx
from resnet_jax.data.sources import open_source
from resnet_jax.errors import UserError

IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"


@pytest.fixture
def downloads(tmp_path, write_fashion_mnist, fashion_arrays):
    return write_fashion_mnist(tmp_path / "downloads", fashion_arrays)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 6), min_size=1, max_size=3), st.integers(0, 2**32))
def test_read_idx_returns_what_was_written(tmp_path, write_idx, shape, seed):
    array = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    write_idx(tmp_path / "file.gz", array)
    result = read_idx(tmp_path / "file.gz", len(shape))
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, array)


def test_read_idx_refuses_damage_at_any_byte(tmp_path, write_idx):
    """A flipped byte is an error, or is where gzip keeps no data: then the array is right."""
    path = tmp_path / "file.gz"
    array = np.arange(600, dtype=np.uint8).reshape(6, 100) % 50
    write_idx(path, array)
    content = path.read_bytes()
    unharmed = 0
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        with contextlib.suppress(UserError):
            np.testing.assert_array_equal(read_idx(path, 2), array)
            unharmed += 1
    # Modification time, extra flags and operating system take six bytes of the header.
    assert unharmed <= 6


def test_read_idx_refuses_a_truncated_file_at_any_length(tmp_path, write_idx):
    path = tmp_path / "file.gz"
    write_idx(path, np.arange(60).reshape(6, 10))
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(UserError, match="IDX"):
            read_idx(path, 2)


@pytest.mark.parametrize("magic", [0x0801, 0x0803, 0x0902, 0x0D02, 0])
def test_read_idx_refuses_another_magic_number(tmp_path, write_idx, magic):
    write_idx(tmp_path / "file.gz", np.ones((2, 3)), magic)
    with pytest.raises(UserError, match="IDX"):
        read_idx(tmp_path / "file.gz", 2)


@pytest.mark.parametrize("change", [-1, 1])
def test_read_idx_refuses_more_or_less_data_than_announced(tmp_path, change):
    header = np.array([0x0801, 10], ">i4").tobytes()
    (tmp_path / "file.gz").write_bytes(gzip.compress(header + bytes(10 + change)))
    with pytest.raises(UserError, match="IDX"):
        read_idx(tmp_path / "file.gz", 1)


def test_prepare_says_what_there_is_now(tmp_path, downloads):
    message = prepare("fashion_mnist", str(tmp_path / "tfds"), str(downloads))
    assert "'train': 24" in message
    assert "'test': 11" in message
    assert str(tmp_path / "tfds") in message


def test_prepare_again_does_nothing(fashion_data_dir, downloads):
    """With the files or without them."""
    before = {path: path.stat().st_mtime_ns for path in fashion_data_dir.rglob("*")}
    assert "is prepared" in prepare("fashion_mnist", str(fashion_data_dir))
    assert "is prepared" in prepare("fashion_mnist", str(fashion_data_dir), str(downloads))
    assert {path: path.stat().st_mtime_ns for path in fashion_data_dir.rglob("*")} == before


def damage_missing(directory, write_idx):
    (directory / IMAGES).unlink()


def damage_no_gzip(directory, write_idx):
    (directory / LABELS).write_bytes(b"<html>404 Not Found</html>")


def damage_truncated(directory, write_idx):
    (directory / IMAGES).write_bytes((directory / IMAGES).read_bytes()[:-100])


def damage_swapped(directory, write_idx):
    images = (directory / IMAGES).read_bytes()
    (directory / IMAGES).write_bytes((directory / LABELS).read_bytes())
    (directory / LABELS).write_bytes(images)


def damage_labels_of_the_other_split(directory, write_idx):
    (directory / LABELS).write_bytes((directory / "t10k-labels-idx1-ubyte.gz").read_bytes())


def damage_label_out_of_range(directory, write_idx):
    write_idx(directory / LABELS, np.arange(24) % 11)


def damage_image_size(directory, write_idx):
    write_idx(directory / IMAGES, np.zeros((24, 27, 28)))


@pytest.mark.parametrize(
    "damage",
    [
        damage_missing,
        damage_no_gzip,
        damage_truncated,
        damage_swapped,
        damage_labels_of_the_other_split,
        damage_label_out_of_range,
        damage_image_size,
    ],
)
def test_prepare_refuses_damaged_files(
    tmp_path, downloads, write_idx, write_fashion_mnist, fashion_arrays, damage
):
    """The error names a file; nothing is prepared, and sound files then are."""
    data_dir = str(tmp_path / "tfds")
    damage(downloads, write_idx)
    with pytest.raises(UserError, match="train-(images|labels)-idx") as caught:
        prepare("fashion_mnist", data_dir, str(downloads))
    assert caught.value.field == "--manual_dir"
    with pytest.raises(UserError, match="not prepared"):
        open_source("fashion_mnist", data_dir)
    write_fashion_mnist(downloads, fashion_arrays)
    prepare("fashion_mnist", data_dir, str(downloads))
    assert len(open_source("fashion_mnist", data_dir).open("train")) == 24


def test_prepare_refuses_a_directory_that_does_not_exist(tmp_path):
    with pytest.raises(UserError, match="no such directory"):
        prepare("fashion_mnist", str(tmp_path), str(tmp_path / "nowhere"))


@pytest.mark.parametrize("name", ["digits", "synthetic"])
def test_prepare_refuses_what_needs_no_preparation(tmp_path, name):
    with pytest.raises(UserError, match="needs no preparation"):
        prepare(name, str(tmp_path))


def test_prepare_refuses_an_unknown_name(tmp_path):
    with pytest.raises(UserError, match="did you mean 'fashion_mnist'"):
        prepare("fashion_mnits", str(tmp_path))


def test_a_set_that_needs_tensorflow_names_the_extra(tmp_path):
    """TFDS encodes images that its builder gives as arrays with TensorFlow only."""
    if importlib.util.find_spec("tensorflow") is not None:
        pytest.skip("TensorFlow is installed")
    import tensorflow_datasets as tfds

    class ImagesAsArrays(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        pkg_dir_path = tmp_path

        def _info(self):
            features = {"image": tfds.features.Image(shape=(8, 8, 1))}
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": iter([(0, {"image": np.zeros((8, 8, 1), np.uint8)})])}

        def _generate_examples(self):
            raise NotImplementedError

    with pytest.raises(UserError, match=r"pip install 'resnet-jax\[prepare\]'"):
        prepare("images_as_arrays", str(tmp_path / "tfds"))
    assert not list((tmp_path / "tfds").rglob("dataset_info.json"))


def test_a_set_in_another_format_is_left_and_the_advice_is_accepted(tmp_path, downloads):
    prepare("fashion_mnist", str(tmp_path / "old"), str(downloads))
    (info,) = (tmp_path / "old").rglob("dataset_info.json")
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    for manual_dir in (str(downloads), None):
        with pytest.raises(UserError, match="FileFormat.TFRECORD"):
            prepare("fashion_mnist", str(tmp_path / "old"), manual_dir)
    with pytest.raises(UserError, match="prepare fashion_mnist --data_dir=DIR` for a new DIR"):
        open_source("fashion_mnist", str(tmp_path / "old")).open("train")
    assert prepare("fashion_mnist", str(tmp_path / "new"), str(downloads)).startswith("prepared")
