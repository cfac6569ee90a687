"""Labels of every source: right, or refused by split, example and label."""

from itertools import islice

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_files import encoded, scene, write_folder

from resnet_jax import errors
from resnet_jax.data import cache, labels
from resnet_jax.data.examples import ArrayExamples, NoLabelsError
from resnet_jax.data.images import Geometry
from resnet_jax.data.labels import CheckedExamples, LabelRange, checked
from resnet_jax.data.sources import open_source
from resnet_jax.data.stream import HostStream, host_eval_batches
from resnet_jax.errors import UserError

THREE = LabelRange("set", "part", ("a", "b", "c"))
right = st.integers(0, 2) | st.integers(0, 2).map(np.int32) | st.integers(0, 2).map(np.uint8)
wrong = st.sampled_from(
    [-1, 3, 2**40, None, float("nan"), 1.0, True, np.bool_(True), np.int64(-1), np.float32(2), "1"]
)


class Listed:
    """Labels that are known only as examples are read."""

    def __init__(self, listed):
        self.listed = listed

    def __len__(self):
        return len(self.listed)

    def __getitem__(self, index):
        return np.zeros((2, 2, 1), np.uint8), self.listed[index]


@given(st.lists(right, max_size=50), st.data())
def test_labels_are_refused_exactly_where_they_are_wrong(some, data):
    """At opening, or as each is read: nothing that is not an integer from 0 to 2 comes through."""
    THREE.check(some, range(len(some)))
    examples = checked(Listed(some), THREE)
    assert [examples[i][1] for i in range(len(some))] == some
    assert all(type(examples[i][1]) is int for i in range(len(some)))
    places = data.draw(st.lists(st.integers(0, len(some)), min_size=1, max_size=3, unique=True))
    for place in sorted(places):
        some.insert(place, data.draw(wrong))
    ours = [i for i, label in enumerate(some) if label not in (0, 1, 2) or _odd(label)]
    for read in (lambda: THREE.check(some, range(len(some))), lambda: _read(some)):
        with pytest.raises(UserError, match="data split = 'part': ") as caught:
            read()
        assert f"example {ours[0]} " in str(caught.value)


def _odd(label):
    return isinstance(label, bool | np.bool_ | float | np.floating | str)


def _read(some):
    """Read every label, after a probe of one, in order."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels, "PROBED", 0)
        examples = checked(Listed(some), THREE)
    for index in range(len(examples)):
        examples[index]


@given(st.lists(st.integers(-2, 4), min_size=1, max_size=30), st.sampled_from([np.int64, np.int8]))
def test_labels_in_memory_are_checked_at_once(some, dtype):
    examples = ArrayExamples(np.zeros((len(some), 1, 1, 1), np.uint8), np.array(some, dtype))
    bad = [i for i, label in enumerate(some) if not 0 <= label <= 2]
    if not bad:
        assert checked(examples, THREE) is examples
        return
    all_missing = all(label < 0 for label in some)
    with pytest.raises(UserError, match=f"example {bad[0]} .*{some[bad[0]]}") as caught:
        checked(examples, THREE)
    assert isinstance(caught.value, NoLabelsError) == all_missing
    with pytest.raises(UserError):
        checked(ArrayExamples(examples.images, np.array(some) + 0.0), THREE)


@pytest.mark.parametrize("missing", [-1, None, float("nan"), np.int64(-1)])
def test_a_split_without_labels_is_named(missing):
    with pytest.raises(NoLabelsError, match=f"'part': of set has no labels .*is {missing}"):
        checked(Listed([missing] * 100), THREE)
    one = [0] * 100
    one[50] = missing
    examples = checked(Listed(one), THREE)
    with pytest.raises(UserError, match=f"example 50 of set has the label {missing}") as caught:
        examples[50]
    assert not isinstance(caught.value, NoLabelsError)


@pytest.mark.parametrize("processes", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_wrong_label_surfaces_from_threads_and_processes(processes):
    some = [0] * 200
    some[3] = 7
    examples = checked(Listed(some), THREE)
    assert isinstance(examples, CheckedExamples)
    stream = HostStream(
        examples, Geometry(None), batch_size=10, num_threads=2, num_processes=processes
    ).host_batches(0, 0)
    with pytest.raises(UserError, match="example 3 of set has the label 7"):
        list(islice(stream, 25))
    stream.close()
    with pytest.raises(UserError, match="example 3 of set has the label 7"):
        list(host_eval_batches(examples, Geometry(None), 10, 2))


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory):
    """TFDS directory with `secret`, whose `test` has no labels, and one wrong label in `extra`."""
    import tensorflow_datasets as tfds
    from PIL import Image

    data_dir = tmp_path_factory.mktemp("unlabelled")
    image = Image.fromarray(np.zeros((2, 2), np.uint8))
    splits = {
        "train": [0, 1, 2] * 4,
        "validation": [0, 1, 2],
        "test": [-1] * 6,
        "extra": [0] * 40 + [-1],
    }

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = "secret"
        VERSION = tfds.core.Version("1.0.0")
        pkg_dir_path = data_dir

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(2, 2, 1), encoding_format="png"),
                "label": tfds.features.ClassLabel(names=["a", "b", "c"]),
            }
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {name: self._examples(some) for name, some in splits.items()}

        def _examples(self, some):
            yield from ((i, {"image": image, "label": label}) for i, label in enumerate(some))

        def _generate_examples(self):
            raise NotImplementedError

    Builder(data_dir=str(data_dir), file_format="array_record").download_and_prepare()
    return data_dir


def test_a_tfds_split_without_labels_is_refused_and_not_the_default(unlabelled, tmp_path, capsys):
    errors.warn.cache_clear()
    source = open_source("secret", str(unlabelled))
    for _ in range(2):
        assert source.eval_split() == "validation"
    warning = "warning: split 'test' of secret has no labels; 'validation' is evaluated\n"
    assert capsys.readouterr().err == warning
    assert source.eval_split("test") == "test"
    for split in ("test", "test[:2]"):
        with pytest.raises(NoLabelsError, match="of secret has no labels"):
            source.open(split)
    with pytest.raises(UserError, match=r"'extra': example \d+ of secret has the label -1"):
        cache.decoded(source, "extra", Geometry(None), directory=tmp_path, num_threads=2)
    assert not list(tmp_path.iterdir())


def test_where_no_split_has_labels_the_last_is_named(unlabelled):
    source = open_source("secret", str(unlabelled))
    only = {"splits": ("train", "test"), "open": source.open}
    with pytest.raises(NoLabelsError, match="'test': of secret has no labels"):
        type(source)(**{**vars(source), **only}).eval_split()


names = st.sampled_from(["bird", "cat", "dog", "elk", "fox"])


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(names, min_size=1, max_size=4, unique=True),
    st.permutations(["bird", "cat", "dog", "elk", "fox"]).flatmap(
        lambda order: st.integers(1, 5).map(lambda count: order[:count])
    ),
    st.data(),
)
def test_hugging_face_labels_mean_the_names_of_train(tmp_path, train, other, data):
    """Splits encoded apart: matched by name, or refused where train has not that name."""
    datasets = pytest.importorskip("datasets")
    from resnet_jax.data import hugging_face

    def rows(classes, labels):
        features = datasets.Features(
            {"image": datasets.Image(), "label": datasets.ClassLabel(names=classes)}
        )
        image = {"bytes": encoded(scene(4, 4), "PNG"), "path": None}
        columns = {"image": [image] * len(labels), "label": labels}
        return datasets.Dataset.from_dict(columns, features=features)

    used = data.draw(st.lists(st.integers(0, len(other) - 1), min_size=1, max_size=6))
    splits = {"train": rows(train, list(range(len(train)))), "test": rows(other, used)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hugging_face, "_load", lambda *_: splits)
        source = open_source("hf:set")
    assert source.class_names == tuple(train)
    unknown = [other[label] for label in used if other[label] not in train]
    if unknown:
        with pytest.raises(UserError, match="'test': of hf:set has classes that train does not"):
            source.open("test")
        return
    examples = source.open("test")
    found = [source.class_names[examples[i][1]] for i in range(len(examples))]
    assert found == [other[label] for label in used]
    assert examples.labels.tolist() == [examples[i][1] for i in range(len(examples))]


def test_a_folder_whose_val_lacks_a_class(tmp_path):
    png = encoded(scene(4, 4), "PNG")
    files = [f"train/{c}/1.png" for c in ("ant", "bee", "cow")] + ["val/bee/1.png", "val/cow/1.png"]
    source = open_source(f"folder:{write_folder(tmp_path, dict.fromkeys(files, png))}")
    assert source.open("val").labels.tolist() == [1, 2]
