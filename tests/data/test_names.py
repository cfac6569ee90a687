"""Names of any characters: files, classes and splits of a folder."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_files import encoded, scene

from resnet_jax import errors
from resnet_jax.data import cache
from resnet_jax.data.damage import DamagedImages
from resnet_jax.data.images import Geometry
from resnet_jax.data.sources import open_source
from resnet_jax.errors import UserError

PNG = [encoded(scene(4, 4, seed), "PNG") for seed in range(3)]
awkward = st.sampled_from(
    [b"[1]", b"*?", b"a\\b", b"a\nb", b" ", b"%s{}", b"caf\xe9", b"\xe2\x80\xa8", b"x"]
)
names = (
    st.lists(awkward | st.binary(min_size=1, max_size=9), min_size=1, max_size=4)
    .map(b"".join)
    .map(lambda name: name.translate(None, b"/\0"))
    .filter(lambda name: name and name[:1] != b".")
)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(names, min_size=2, max_size=3), names, names)
def test_a_folder_of_any_names(tmp_path_factory, classes, image, text):
    """It opens, is cached and read again; what cannot be read is named in characters that print."""
    root = os.fsencode(tmp_path_factory.mktemp("names")) + b"/" + image
    for number, name in enumerate(sorted(classes)):
        directory = b"/".join((root, b"train", name))
        os.makedirs(directory)
        for content, end in ((PNG[number], b".png"), (b"text", b".jpg"), (b"", b".weird")):
            with open(directory + b"/" + text + end, "wb") as file:
                file.write(content)
    source = open_source(f"folder:{os.fsdecode(root)}")
    assert sorted(map(os.fsencode, source.class_names)) == sorted(classes)
    for _ in range(2):
        damaged = DamagedImages(3)
        examples = cache.decoded(
            source,
            "train",
            Geometry(4),
            directory=tmp_path_factory.getbasetemp() / "cache",
            num_threads=2,
            damaged=damaged,
        )
        order = [sorted(classes).index(os.fsencode(name)) for name in source.class_names]
        for array, number in zip(examples.images, order, strict=True):
            np.testing.assert_array_equal(array, scene(4, 4, number))
        new = damaged.take_new()
        assert len(new) == len(classes)
        assert all(str(problem).isprintable() for problem in new)
    with pytest.raises(UserError) as caught:
        cache.decoded(
            source, "train", Geometry(4), directory=tmp_path_factory.mktemp("c"), num_threads=2
        )
    assert str(caught.value).isprintable()
    os.makedirs(b"/".join((root, b"val", image + b"unknown")))
    with pytest.raises(UserError) as caught:
        open_source(f"folder:{os.fsdecode(root)}")
    assert str(caught.value).isprintable()


def test_long_names(tmp_path):
    (tmp_path / "train" / ("c" * 250)).mkdir(parents=True)
    (tmp_path / "train" / ("c" * 250) / ("f" * 246 + ".png")).write_bytes(PNG[0])
    source = open_source(f"folder:{tmp_path}")
    examples = cache.decoded(
        source, "train", Geometry(4), directory=tmp_path / "cache", num_threads=1
    )
    assert len(examples) == 1


@given(st.text(max_size=20), st.sampled_from(["", "folder:"]))
@settings(max_examples=30)
def test_a_data_set_of_any_name_is_there_or_a_user_error(name, kind):
    with pytest.raises(UserError) as caught:
        open_source(f"{kind}{name}/nowhere", "/nowhere")
    assert str(caught.value).isprintable()


def test_a_hugging_face_directory_of_any_name(tmp_path):
    pytest.importorskip("datasets")
    name = os.fsdecode(b"[1] a\\b\nc\xe9")
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match="cannot be loaded") as caught:
        open_source(f"hf:{name}", str(tmp_path))
    assert str(caught.value).isprintable()


def test_skipped_files_are_counted_by_suffix_in_one_line_once(tmp_path, capsys):
    errors.warn.cache_clear()
    directory = tmp_path / "train/cat"
    directory.mkdir(parents=True)
    (directory / "1.png").write_bytes(PNG[0])
    skipped = ["a.txt", "b.TXT", "c.heic", ".DS_Store", "README", "d.x\ny", "e.1", "f.2", "g.3"]
    for name in skipped:
        (directory / name).write_bytes(b"")
    (tmp_path / "train/loose.jpg").write_bytes(PNG[0])
    for _ in range(2):
        source = open_source(f"folder:{tmp_path}")
    assert len(source.open("train")) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    start = f"warning: folder:{tmp_path}: 10 files left out, not images by name: 2 .txt, "
    assert err.startswith(start)
    counts = err.removeprefix(start).strip().split(", ")
    assert 2 + sum(int(count.split()[0]) for count in counts) == 10
    assert len(counts) == 5


def test_every_suffix_that_counts_is_one_that_pillow_opens():
    from PIL import Image

    from resnet_jax.data.folder import EXTENSIONS

    Image.init()
    opened = {
        suffix for suffix, form in Image.registered_extensions().items() if form in Image.OPEN
    }
    assert set(EXTENSIONS) - {".avif"} <= opened


PROGRAM = """
import sys
from pathlib import Path
from resnet_jax.data import cache
from resnet_jax.data.damage import DamagedImages
from resnet_jax.data.images import Geometry
from resnet_jax.data.sources import open_source
source, damaged = open_source("folder:" + sys.argv[1]), DamagedImages(1)
options = {"directory": Path(sys.argv[2]), "num_threads": 1, "damaged": damaged}
print(len(cache.decoded(source, "train", Geometry(4), **options)), *damaged.take_new())
"""


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "en_US.UTF-8"])
def test_names_that_are_not_utf_8_print_under_every_locale(tmp_path, locale):
    directory = os.fsencode(tmp_path) + b"/\xe9\xff[1]/train/caf\xe9"
    os.makedirs(directory)
    for name, content in (("1.png", PNG[0]), ("2.jpg", b"text"), ("3.x\udce9", b"")):
        with open(directory + b"/caf\xe9" + os.fsencode(name), "wb") as file:
            file.write(content)
    # As where the locale is there: strict, unlike the C locale.
    environment = {**os.environ, "LC_ALL": locale, "PYTHONIOENCODING": "utf-8:strict"}
    command = [sys.executable, "-c", PROGRAM, directory.rsplit(b"/", 2)[0], tmp_path / "cache"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("1 ")
    assert r"caf\xe9/caf\xe92.jpg: is no image file" in done.stdout
    assert done.stderr.count("\n") == 1
    assert r"1 file left out, not images by name: 1 .x\xe9" in done.stderr
