"""Tiny TFDS sets, built by the tests themselves and read back as any other."""

import gzip

import numpy as np
import pytest

from resnet_jax.data.prepare import prepare
from resnet_jax.data.sources import open_source


@pytest.fixture(scope="session")
def write_idx():
    """A function that writes a gzipped IDX file."""

    def write(path, array, magic=None):
        array = np.asarray(array, np.uint8)
        magic = 0x0800 + array.ndim if magic is None else magic
        header = np.array([magic, *array.shape], ">i4").tobytes()
        path.write_bytes(gzip.compress(header + array.tobytes()))

    return write


@pytest.fixture(scope="session")
def write_fashion_mnist(write_idx):
    """A function that writes the four files of Fashion-MNIST."""

    def write(directory, arrays):
        directory.mkdir(parents=True, exist_ok=True)
        for prefix, split in (("train", "train"), ("t10k", "test")):
            images, labels = arrays[split]
            write_idx(directory / f"{prefix}-images-idx3-ubyte.gz", images)
            write_idx(directory / f"{prefix}-labels-idx1-ubyte.gz", labels)
        return directory

    return write


@pytest.fixture(scope="session")
def fashion_arrays():
    """Split → (images, labels) of a Fashion-MNIST of 24 and 11 random images."""
    rng = np.random.default_rng(7)
    return {
        split: (rng.integers(0, 256, (count, 28, 28), np.uint8), rng.integers(0, 10, count))
        for split, count in (("train", 24), ("test", 11))
    }


@pytest.fixture(scope="session")
def fashion_data_dir(tmp_path_factory, write_fashion_mnist, fashion_arrays):
    """TFDS directory in which the tiny Fashion-MNIST is prepared."""
    root = tmp_path_factory.mktemp("fashion")
    manual_dir = write_fashion_mnist(root / "downloads", fashion_arrays)
    prepare("fashion_mnist", str(root / "tfds"), str(manual_dir))
    return root / "tfds"


@pytest.fixture
def fashion(fashion_data_dir):
    """The tiny Fashion-MNIST as a source."""
    return open_source("fashion_mnist", str(fashion_data_dir))


@pytest.fixture(scope="session")
def build_tfds():
    """A function that builds a TFDS set with one split of any features."""

    def build(set_name, data_dir, features, split, examples):
        import tensorflow_datasets as tfds

        class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
            name = set_name
            VERSION = tfds.core.Version("1.0.0")
            pkg_dir_path = data_dir

            def _info(self):
                return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

            def _split_generators(self, dl_manager):
                return {split: self._generate_examples()}

            def _generate_examples(self):
                yield from enumerate(examples)

        Builder(data_dir=str(data_dir), file_format="array_record").download_and_prepare()

    return build


@pytest.fixture(scope="session")
def ragged_data_dir(tmp_path_factory, build_tfds):
    """TFDS directory with `ragged`: 9 colour images of different sizes, split `validation` only."""
    import tensorflow_datasets as tfds
    from PIL import Image

    data_dir = tmp_path_factory.mktemp("ragged")
    rng = np.random.default_rng(1)
    shapes = [(12 + 3 * i, 40 - 2 * i, 3) for i in range(9)]
    examples = [
        {"image": Image.fromarray(rng.integers(0, 256, shape, np.uint8)), "label": i % 2}
        for i, shape in enumerate(shapes)
    ]
    features = {
        "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
        "label": tfds.features.ClassLabel(names=["cat", "dog"]),
    }
    build_tfds("ragged", data_dir, features, "validation", examples)
    return data_dir


@pytest.fixture
def ragged(ragged_data_dir):
    """`ragged` as a source."""
    return open_source("ragged", str(ragged_data_dir))
