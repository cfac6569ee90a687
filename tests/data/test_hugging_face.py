"""Hugging Face sets saved to disk, against the rows that were saved."""

import numpy as np
import pytest
from image_files import encoded, scene
from PIL import Image as PillowImage

from resnet_jax.data.decoding import DamagedImageError, pixels
from resnet_jax.data.hugging_face import HuggingFaceExamples
from resnet_jax.data.sources import open_source
from resnet_jax.errors import UserError

datasets = pytest.importorskip("datasets")
FEATURES = datasets.Features(
    {
        "text": datasets.Value("string"),
        "picture": datasets.Image(),
        "kind": datasets.ClassLabel(names=["cat", "dog"]),
    }
)


def rows(seeds, labels=None):
    images = [PillowImage.fromarray(scene(8, 9, seed)) for seed in seeds]
    labels = [seed % 2 for seed in seeds] if labels is None else labels
    columns = {"text": ["x"] * len(images), "picture": images, "kind": labels}
    return datasets.Dataset.from_dict(columns, features=FEATURES)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("hugging") / "pets"
    splits = {"train": rows(range(5)), "validation": rows((7, 8))}
    datasets.DatasetDict(splits).save_to_disk(path)
    return path


def test_a_row_without_an_image_is_damage_and_one_without_a_label_an_error(tmp_path):
    columns = {"text": ["x"] * 2, "picture": [None, PillowImage.fromarray(scene(8, 9))]}
    for name, labels in (("images", [0, 1]), ("labels", [0, None])):
        datasets.Dataset.from_dict(columns | {"kind": labels}, features=FEATURES).save_to_disk(
            tmp_path / name
        )
    examples = open_source("hf:images", str(tmp_path)).open("train")
    with pytest.raises(DamagedImageError, match=r"hf:images train\[0\]: is missing"):
        examples[0]
    np.testing.assert_array_equal(pixels(examples[1][0]), scene(8, 9))
    with pytest.raises(UserError, match="example 1 of hf:labels has the label None"):
        open_source("hf:labels", str(tmp_path)).open("train")


@pytest.mark.parametrize("relative", [False, True])
def test_a_saved_set_is_what_was_saved(saved, relative):
    name = f"hf:{saved.name}" if relative else f"hf:{saved}"
    source = open_source(name, str(saved.parent))
    assert source.class_names == ("cat", "dog")
    assert source.image_shape == (None, None, 3)
    assert (source.splits, source.eval_split()) == (("train", "validation"), "validation")
    for split, seeds in (("train", range(5)), ("validation", (7, 8))):
        examples = source.open(split)
        assert len(examples) == len(seeds)
        for index, seed in enumerate(seeds):
            image, label = examples[index]
            np.testing.assert_array_equal(pixels(image), scene(8, 9, seed))
            assert label == seed % 2


def test_digests_are_of_the_content(saved, tmp_path):
    datasets.DatasetDict({"train": rows(range(4))}).save_to_disk(tmp_path / "pets")
    digests = [
        open_source(f"hf:{path}").content("train") for path in (saved, saved, tmp_path / "pets")
    ]
    assert digests[0] == digests[1] != digests[2]


def test_a_saved_set_without_splits_is_train(tmp_path):
    rows((1, 2)).save_to_disk(tmp_path / "one")
    assert open_source(f"hf:{tmp_path}/one").splits == ("train",)


def test_an_image_that_is_a_path_is_read_there(tmp_path):
    path = tmp_path / "1.png"
    path.write_bytes(encoded(scene(8, 9), "PNG"))
    row = {"picture": {"bytes": None, "path": str(path)}, "kind": 1}
    examples = HuggingFaceExamples([row], "hf:set train", "picture", np.array([1]))
    np.testing.assert_array_equal(pixels(examples[0][0]), scene(8, 9))
    path.unlink()
    with pytest.raises(DamagedImageError, match=r"^hf:set train\[0\] \(.*1.png\): No such file"):
        examples[0]


def test_refusals(saved, tmp_path):
    with pytest.raises(UserError, match="'test': hf:.* has train, validation"):
        open_source(f"hf:{saved}").open("test")
    rows((1, 2)).remove_columns("kind").save_to_disk(tmp_path / "unlabelled")
    with pytest.raises(UserError, match="0 columns of ClassLabel and needs one"):
        open_source(f"hf:{tmp_path}/unlabelled")
    rows((1, 2), [0, -1]).save_to_disk(tmp_path / "partly")
    with pytest.raises(
        UserError,
        match="example 1 of hf:.*partly has the label -1; labels are integers from 0 to 1",
    ):
        open_source(f"hf:{tmp_path}/partly").open("train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="cannot be loaded .*save_to_disk"):
        open_source(f"hf:{tmp_path}/empty")
