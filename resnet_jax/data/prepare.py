"""Put a TFDS data set on disk as ArrayRecord files."""

import gzip
import logging
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from resnet_jax.data.embedded import EMBEDDED
from resnet_jax.data.tfds import needs_tensorflow, tfds_builder
from resnet_jax.errors import UserError
from resnet_jax.files import flush_tree, open_file

# Bytes of an IDX file, unpacked: those of MNIST have 47 million.
LARGEST_IDX = 2**28
# MNIST's file format, http://yann.lecun.com/exdb/mnist: big-endian magic number and dimensions.
_FASHION_MNIST_FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """A gzipped IDX file of unsigned bytes.

    Args:
        path: of the file.
        dimensions: that it must have.

    Raises:
        UserError: no such file, or not such a file.
    """
    try:
        with open_file(path) as packed, gzip.open(packed) as file:
            content = file.read(LARGEST_IDX)
        magic, *shape = np.frombuffer(content, ">i4", 1 + dimensions).tolist()
        array = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(
            "--manual_dir", str(path), f"cannot be read as an IDX file ({error})"
        ) from error
    if magic != 0x0800 + dimensions:
        raise UserError("--manual_dir", str(path), f"is no IDX file of {dimensions} dimensions")
    return array


def _fashion_mnist_builder(data_dir: str | None) -> Any:
    """TFDS's builder, but reading local files, which needs no TensorFlow."""
    from PIL import Image
    from tensorflow_datasets.image_classification.mnist import FashionMNIST

    class LocalFashionMNIST(FashionMNIST, skip_registration=True):  # type: ignore[call-arg]
        name = "fashion_mnist"
        MANUAL_DOWNLOAD_INSTRUCTIONS = f"Needs {_FASHION_MNIST_FILES}"

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            return {
                split: self._generate_examples(*(dl_manager.manual_dir / name for name in names))
                for split, names in _FASHION_MNIST_FILES.items()
            }

        def _generate_examples(self, images: Path, labels: Path) -> Iterator[tuple[int, dict]]:  # type: ignore[override]
            pairs = zip(read_idx(images, 3), read_idx(labels, 1), strict=True)
            for index, (image, label) in enumerate(pairs):
                yield index, {"image": Image.fromarray(image), "label": int(label)}

    try:
        return LocalFashionMNIST(data_dir=data_dir, file_format="array_record")
    except ValueError as error:
        problem = f"has it in a format without random access ({error})"
        raise UserError("--data_dir", data_dir, problem, "give a new directory") from error


def prepare(name: str, data_dir: str | None = None, manual_dir: str | None = None) -> str:
    """Prepare a TFDS data set, unless it is there.

    Args:
        name: TFDS name.
        data_dir: where to; None: $TFDS_DATA_DIR or TFDS's default.
        manual_dir: files that the user downloaded, where the set asks for such.

    Returns:
        One line that says what there is now.

    Raises:
        UserError: the set needs no preparation, does not exist, needs TensorFlow, or its files cannot
            be had.
    """
    # Each retry of a download would be a warning of several lines.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    if name in EMBEDDED:
        raise UserError("name", name, "needs no preparation", "train on it as it is")
    if manual_dir is not None and not Path(manual_dir).is_dir():
        raise UserError("--manual_dir", manual_dir, "no such directory")
    if name == "fashion_mnist" and manual_dir is not None:
        for image_file, label_file in _FASHION_MNIST_FILES.values():
            images = read_idx(Path(manual_dir) / image_file, 3)
            labels = read_idx(Path(manual_dir) / label_file, 1)
            if images.shape != (len(labels), 28, 28) or np.any(labels > 9):
                problem = f"{image_file} and {label_file} are no 28×28 images with a label 0-9 each"
                raise UserError("--manual_dir", manual_dir, problem)
        builder = _fashion_mnist_builder(data_dir)
    else:
        builder = tfds_builder(name, data_dir, file_format="array_record")
    if builder.is_prepared():
        return f"{name} is prepared in {builder.data_path}"

    import tensorflow_datasets as tfds

    config = tfds.download.DownloadConfig(manual_dir=manual_dir)
    try:
        builder.download_and_prepare(download_config=config)
        flush_tree(Path(builder.data_path))
    except ImportError as error:
        raise _without_tensorflow(name) from error
    except (OSError, AssertionError, tfds.download.DownloadError) as error:
        problem = f"could not be prepared ({' '.join(str(error).split())[:300]})"
        raise UserError("name", name, problem) from error
    examples = {split: info.num_examples for split, info in builder.info.splits.items()}
    return f"prepared {name} in {builder.data_path}: {examples}"


def _without_tensorflow(name: str) -> UserError:
    error = needs_tensorflow(name)
    if name != "fashion_mnist":
        return error
    fix = f"{error.fix}; or give its four .gz files by --manual_dir, which needs no TensorFlow"
    return UserError(error.field, error.value, error.problem, fix)
