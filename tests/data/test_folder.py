"""Folders of image files, against the files that were written."""

import os

import numpy as np
import pytest
from image_files import encoded, scene, write_folder

from resnet_jax.data.decoding import DamagedImageError, pixels
from resnet_jax.data.sources import open_source
from resnet_jax.errors import UserError

PNG = encoded(scene(8, 9), "PNG")
FILES = {
    "train/dog/b.png": encoded(scene(8, 9, 1), "PNG"),
    "train/dog/a.JPEG": encoded(scene(10, 12, 2), quality=98, subsampling=0),
    "train/Cat/1.webp": encoded(scene(9, 9, 3), "WEBP", lossless=True),
    "train/Cat/2.Bmp": encoded(scene(9, 9, 4), "BMP"),
    "val/dog/x.jpg": encoded(scene(8, 9, 5)),
    "val/Cat/y.png": encoded(scene(8, 9, 6), "PNG"),
    "train/dog/notes.txt": b"left out",
    "train/dog/.hidden.png": b"left out",
    "train/.cache/z.png": b"left out",
    "README.md": b"left out",
    "docs/readme.txt": b"left out",
}


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "pets", FILES)


def read(source, split):
    examples = source.open(split)
    return [(pixels(image), label) for image, label in (examples[i] for i in range(len(examples)))]


def test_a_folder_is_what_was_written(folder):
    source = open_source(f"folder:{folder}")
    assert source.class_names == ("Cat", "dog")
    assert source.splits == ("train", "val")
    assert source.image_shape == (None, None, 3)
    assert source.eval_split() == "val"
    train = read(source, "train")
    assert [label for _, label in train] == [0, 0, 1, 1]
    for (image, _), seed in zip((train[0], train[1], train[3]), (3, 4, 1), strict=True):
        np.testing.assert_array_equal(image, scene(*image.shape[:2], seed))
    assert np.abs(train[2][0].astype(int) - scene(10, 12, 2)).max() < 8
    assert [label for _, label in read(source, "val")] == [0, 1]


def test_where_a_relative_path_begins(folder, monkeypatch):
    assert open_source("folder:pets", str(folder.parent)).num_classes == 2
    monkeypatch.chdir(folder.parent)
    assert open_source("folder:pets").num_classes == 2


def test_the_digest_is_of_the_content(folder, tmp_path):
    def digests(name=f"folder:{folder}", data_dir=None):
        return tuple(map(open_source(name, data_dir).content, ("train", "val")))

    first = digests()
    assert digests("folder:pets", str(folder.parent)) == first
    os.utime(folder / "val/dog/x.jpg", (1, 1))
    (folder / "val/dog/x.jpg").rename(folder / "val/dog/w.jpg")
    (folder / "train/dog/notes.txt").write_text("changed")
    assert digests() == first
    (folder / "val/dog/w.jpg").write_bytes(encoded(scene(8, 9, 7)))
    assert (digests()[0] == first[0], digests()[1] == first[1]) == (True, False)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "has no directories of classes, and not train"),
        ({"cat/1.png": PNG}, "and not train"),
        ({"val/cat/1.png": PNG}, "has val, and not train"),
        ({"train/1.png": PNG}, "has no directories of classes, and not train"),
        ({"train/cat/1.png": PNG, "train/dog": None}, "train/dog holds no image"),
        ({"train/cat/1.png": PNG, "train/cat/more/2.png": PNG}, "holds a directory, more; put"),
        ({"train/cat/1.png": PNG, "val/cat": None}, "val/cat holds no image"),
        ({"train/cat/1.png": PNG, "val/dog/1.png": PNG}, "class of .*val/dog is not in train"),
    ],
)
def test_directories_that_are_not_in_order(tmp_path, files, words):
    folder = write_folder(tmp_path / "bad", {"note.txt": b"", **files})
    with pytest.raises(UserError, match=words) as caught:
        open_source(f"folder:{folder}")
    assert caught.value.field == "data.name"


def test_a_folder_or_split_that_is_not_there(folder, tmp_path):
    with pytest.raises(UserError, match="there is no directory .*nowhere"):
        open_source("folder:nowhere", str(tmp_path))
    with pytest.raises(UserError, match="'test': folder:.*has train, val"):
        open_source(f"folder:{folder}").open("test")


def test_links_and_names_that_are_no_utf_8(folder):
    (folder / "train/dog/c.png").symlink_to(folder / "train/dog/b.png")
    (folder / "train/dog/d.png").symlink_to(folder / "nowhere.png")
    odd = os.fsencode(folder / "train/dog") + b"/e\xff.png"
    with open(odd, "wb") as file:
        file.write(PNG)
    examples = open_source(f"folder:{folder}").open("train")
    np.testing.assert_array_equal(pixels(examples[4][0]), scene(8, 9, 1))
    with pytest.raises(DamagedImageError, match="dog/d.png: No such file"):
        examples[5]
    np.testing.assert_array_equal(pixels(examples[6][0]), scene(8, 9))


def test_a_file_that_vanished_is_damage_and_named(folder):
    examples = open_source(f"folder:{folder}").open("train")
    (folder / "train/dog/b.png").unlink()
    with pytest.raises(DamagedImageError, match="dog/b.png: No such file"):
        examples[3]
