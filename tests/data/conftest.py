"""Tiny TFDS sets, built by the tests themselves and read back as any other."""

import numpy as np
import pytest

from resnet_jax.data.prepare import prepare
from resnet_jax.data.sources import open_source


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
