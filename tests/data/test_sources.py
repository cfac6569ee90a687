"""Sources, against scikit-learn's own arrays and a TFDS set with known content."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from sklearn.datasets import load_digits

from resnet_jax.data.decoding import pixels
from resnet_jax.data.examples import ArrayExamples, Source
from resnet_jax.data.sources import open_source
from resnet_jax.errors import UserError


def content(examples):
    """The examples as a multiset."""
    pairs = (examples[index] for index in range(len(examples)))
    return Counter((pixels(image).tobytes(), int(label)) for image, label in pairs)


def expected_content(images, labels):
    return content(ArrayExamples(images, labels))


def test_digits_are_all_of_scikit_learn_in_two_disjoint_splits():
    """The multiset of both splits is the set's, so no example is in both or in none."""
    source, data = open_source("digits"), load_digits()
    images = np.round(data.images / 16 * 255).astype(np.uint8)
    train, test = source.open("train"), source.open("test")
    assert (len(train), len(test)) == (1437, 360)
    assert content(train) + content(test) == expected_content(images, data.target)


def test_digits_facts():
    source = open_source("digits")
    assert source.class_names == tuple(str(name) for name in load_digits().target_names)
    assert source.num_classes == 10
    assert source.image_shape == (8, 8, 1)
    assert source.splits == ("train", "test")
    image, label = source.open("train")[0]
    assert (image.shape, image.dtype, type(label)) == ((8, 8, 1), np.uint8, int)
    assert image.max() > 200


def test_digits_are_the_same_every_time_and_every_class_is_in_both_splits():
    for split, least in (("train", 100), ("test", 20)):
        first, again = (open_source("digits").open(split) for _ in range(2))
        np.testing.assert_array_equal(first.images, again.images)
        np.testing.assert_array_equal(first.labels, again.labels)
        assert np.bincount(first.labels, minlength=10).min() > least


@pytest.mark.parametrize(("image_size", "side"), [(None, 32), (17, 17)])
def test_synthetic_has_the_size_asked_for(image_size, side):
    source = open_source("synthetic", image_size=image_size)
    assert source.image_shape == (side, side, 3)
    for split, count in (("train", 2048), ("test", 512)):
        examples = source.open(split)
        assert examples.images.shape == (count, side, side, 3)
        assert examples.images.dtype == np.uint8
        assert set(examples.labels) == set(range(10))
        np.testing.assert_array_equal(
            examples.images, open_source("synthetic", image_size=image_size).open(split).images
        )


def test_digests_tell_contents_apart():
    digests = [open_source("synthetic", image_size=size).content("test") for size in (8, 9, 8)]
    assert digests[0] == digests[2]
    assert len({*digests, *map(open_source("digits").content, ("train", "test"))}) == 4


@pytest.mark.parametrize("name", ["digits", "synthetic"])
def test_unknown_split_of_an_embedded_set(name):
    with pytest.raises(UserError, match="'validation': .* has train, test"):
        open_source(name).open("validation")


@pytest.mark.parametrize(
    ("name", "meant"),
    [("cifar01", "cifar10"), ("digit", "digits"), ("mnits", "mnist"), ("cifar1O/x", "cifar10")],
)
def test_unknown_name_suggests_the_nearest(name, meant):
    with pytest.raises(UserError, match=f"did you mean '{meant}'") as caught:
        open_source(name)
    assert caught.value.field == "data.name"
    assert caught.value.value == name


@pytest.mark.parametrize(
    "name", ["", "a/b/c", "cifar10:9.9.9", "cifar10/nosuch", "../cifar10", "qqqqqqqqqqqq"]
)
def test_impossible_names_are_user_errors(tmp_path, name):
    with pytest.raises(UserError) as caught:
        open_source(name, str(tmp_path))
    assert caught.value.value == name


def test_a_set_that_is_not_prepared_says_how_to(tmp_path):
    with pytest.raises(UserError, match="launch.py prepare cifar10") as caught:
        open_source("cifar10", str(tmp_path))
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("splits", "wanted", "chosen"),
    [
        (("train", "test"), None, "test"),
        (("train", "validation"), None, "validation"),
        (("validation", "test", "train"), None, "test"),
        (("train", "validation", "test"), "validation", "validation"),
        (("train", "test"), "train[:10%]", "train[:10%]"),
        (("train",), "train", "train"),
    ],
)
def test_eval_split(splits, wanted, chosen):
    assert Source("set", ("a",), (1, 1, 1), splits, list, str).eval_split(wanted) == chosen


def test_eval_split_where_there_is_none():
    source = Source("set", ("a",), (1, 1, 1), ("train", "extra"), list, str)
    with pytest.raises(UserError, match="no test or validation split; name one of train, extra"):
        source.eval_split()


def test_tfds_set_is_what_was_prepared(fashion, fashion_arrays):
    assert fashion.class_names[0] == "T-shirt/top"
    assert fashion.num_classes == 10
    assert fashion.image_shape == (28, 28, 1)
    assert set(fashion.splits) == {"train", "test"}
    for split, arrays in fashion_arrays.items():
        assert content(fashion.open(split)) == expected_content(*arrays)


def test_tfds_examples_are_random_access(fashion):
    examples = fashion.open("train")
    image, label = examples[17]
    assert (image.shape, pixels(image).dtype, type(label)) == ((28, 28, 1), np.uint8, int)
    np.testing.assert_array_equal(pixels(examples[17][0]), pixels(image))


@pytest.mark.parametrize(
    ("parts", "counts"),
    [
        (("train[:50%]", "train[50%:]"), (12, 12)),
        (("train[:5]", "train[5:20]", "train[20:]"), (5, 15, 4)),
        (("train[:-3]", "train[-3:]"), (21, 3)),
    ],
)
def test_tfds_sub_splits_are_parts_of_the_split(fashion, parts, counts):
    examples = [fashion.open(part) for part in parts]
    assert tuple(map(len, examples)) == counts
    assert sum(map(content, examples), Counter()) == content(fashion.open("train"))


@pytest.mark.parametrize(
    "split", ["validation", "", "train[", "train[:x]", "train[:0]", "train[5:3]", "train[99:]"]
)
def test_tfds_splits_that_do_not_exist(fashion, split):
    with pytest.raises(UserError, match="fashion_mnist has train, test") as caught:
        fashion.open(split)
    assert caught.value.value == split


def test_tfds_directory_of_the_environment(fashion_data_dir):
    """In a process of its own: TFDS reads the variable when it is imported."""
    program = """
from resnet_jax.data.sources import open_source
print(len(open_source("fashion_mnist").open("test")))
"""
    environment = {**os.environ, "TFDS_DATA_DIR": str(fashion_data_dir)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "11"


def test_tfds_directory_does_not_choose_what_is_imported(fashion_data_dir, tmp_path, monkeypatch):
    """TFDS itself imports the module of a feature: here a file that came with the data."""
    shutil.copytree(fashion_data_dir, tmp_path / "tfds")
    (tmp_path / "came_with_the_data.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    # Of a set that TFDS has no code for.
    (tmp_path / "tfds" / "fashion_mnist").rename(tmp_path / "tfds" / "unknown")
    (path,) = (tmp_path / "tfds").rglob("features.json")
    features = json.loads(path.read_text())
    path.write_text(json.dumps(features | {"pythonClassName": "came_with_the_data.Feature"}))
    with pytest.raises(UserError, match=r"came_with_the_data\.Feature, which is not a feature"):
        open_source("unknown", str(tmp_path / "tfds"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("template", ["/etc/passwd", "../../{DATASET}-{SPLIT}"])
def test_tfds_directory_does_not_name_files_elsewhere(fashion_data_dir, tmp_path, template):
    shutil.copytree(fashion_data_dir, tmp_path / "tfds")
    (path,) = (tmp_path / "tfds").rglob("dataset_info.json")
    facts = json.loads(path.read_text())
    facts["splits"][0]["filepathTemplate"] = template
    path.write_text(json.dumps(facts))
    with pytest.raises(UserError, match=r"its dataset_info\.json names "):
        open_source("fashion_mnist", str(tmp_path / "tfds"))


def test_tfds_set_in_a_format_without_random_access(fashion_data_dir, tmp_path):
    shutil.copytree(fashion_data_dir, tmp_path / "tfds")
    (path,) = (tmp_path / "tfds").rglob("dataset_info.json")
    info = json.loads(path.read_text())
    info["fileFormat"] = "tfrecord"
    path.write_text(json.dumps(info))
    source = open_source("fashion_mnist", str(tmp_path / "tfds"))
    with pytest.raises(UserError, match="without random access.*launch.py prepare fashion_mnist"):
        source.open("train")


def test_tfds_set_of_images_of_many_sizes(ragged):
    """It has no test split, so validation is the one to evaluate."""
    assert ragged.image_shape == (None, None, 3)
    assert ragged.class_names == ("cat", "dog")
    assert ragged.eval_split() == "validation"
    examples = ragged.open("validation")
    shapes = {pixels(examples[index][0]).shape for index in range(len(examples))}
    assert shapes == {(12 + 3 * i, 40 - 2 * i, 3) for i in range(9)}


@pytest.mark.parametrize("with_image", [True, False])
def test_tfds_set_that_is_no_image_classification(tmp_path, build_tfds, with_image):
    import tensorflow_datasets as tfds
    from PIL import Image

    features = {"label": tfds.features.Scalar(np.int64)}
    example = {"label": 3}
    if with_image:
        features["image"] = tfds.features.Image(shape=(4, 4, 1), encoding_format="png")
        example["image"] = Image.fromarray(np.zeros((4, 4), np.uint8))
    build_tfds("numbers", tmp_path, features, "train", [example])
    with pytest.raises(UserError, match="is no image classification set"):
        open_source("numbers", str(tmp_path))
