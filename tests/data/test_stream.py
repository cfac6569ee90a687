"""The stream over processes, workers, repeats and damaged images."""

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import encoded, scene, write_folder

from resnet_jax.data import cache
from resnet_jax.data.damage import DamagedImages
from resnet_jax.data.decoding import DamagedImageError, EncodedImage
from resnet_jax.data.examples import ArrayExamples, Source
from resnet_jax.data.images import Geometry
from resnet_jax.data.on_device import OnDevice
from resnet_jax.data.sources import open_source
from resnet_jax.data.stream import HostStream, host_eval_batches
from resnet_jax.errors import UserError


class Files:
    """PNG files, each a colour that is its number; those in `damaged` are cut short."""

    def __init__(self, count, damaged=(), size=8):
        self.files = [encoded(np.full((size, size, 3), i, np.uint8), "PNG") for i in range(count)]
        for index in damaged:
            self.files[index] = self.files[index][:41]

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        return EncodedImage(self.files[index], f"file {index}"), index


def noise(count):
    rng = np.random.default_rng(0)
    return [(rng.integers(0, 256, (12, 15, 3), np.uint8), i) for i in range(count)]


def shares(batch_size, count):
    each = batch_size // count
    return [range(batch_size)[part * each : (part + 1) * each] for part in range(count)]


def assert_equal(actual, expected):
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array, err_msg=name)


def joined(batches):
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def test_the_order_is_that_of_runs_before_streams_were_shared():
    """Written down from the version before, so that its runs go on as they began."""
    data = HostStream(noise(10), Geometry(None), batch_size=4)
    labels = [data.host_batch(step, 3)["label"].tolist() for step in range(6)]
    assert labels == [
        [4, 6, 9, 7],
        [5, 3, 1, 8],
        [2, 0, 8, 1],
        [3, 7, 9, 0],
        [5, 4, 2, 6],
        [4, 0, 7, 9],
    ]


@settings(max_examples=12)
@given(st.integers(1, 9), st.integers(0, 10**6), st.sampled_from([1, 2, 4]), st.integers(1, 3))
def test_the_shares_of_processes_make_up_the_batch(count, step, processes, repeats):
    """Any step, over the ends of epochs; crops too depend on the place in the batch alone."""
    options = {"batch_size": 8, "geometry": Geometry(6), "random_crop": True, "repeats": repeats}
    options["max_damaged"] = 1
    examples = [*noise(count), (EncodedImage(encoded(scene()), "jpeg"), count)]
    whole = HostStream(examples, **options).host_batch(step, 5)
    parts = [
        HostStream(examples, positions=positions, **options).host_batch(step, 5)
        for positions in shares(8, processes)
    ]
    assert_equal(joined(parts), whole)


@given(st.integers(1, 11), st.integers(1, 3), st.sampled_from([1, 2, 4]))
def test_the_shares_of_an_evaluation_make_up_its_batches(count, per_process, processes):
    size = 4 * per_process
    examples = Files(count, damaged=[0] if count > 2 else [])
    whole = list(host_eval_batches(examples, Geometry(8), size, 2))
    parts = [
        host_eval_batches(examples, Geometry(8), size, 2, positions)
        for positions in shares(size, processes)
    ]
    batches = [joined(batch) for batch in zip(*parts, strict=True)]
    assert len(batches) == len(whole) == -(-count // size)
    for batch, expected in zip(batches, whole, strict=True):
        assert_equal(batch, expected)
    mask = np.concatenate([batch["mask"] for batch in whole])[:count]
    np.testing.assert_array_equal(mask, np.arange(count) >= (count > 2))


@pytest.mark.parametrize("repeats", [2, 3])
def test_repeats_show_each_example_in_a_row_under_crops_of_its_own(repeats):
    count, batch_size, steps = 6, 4, 9
    options = {"batch_size": batch_size, "geometry": Geometry(6), "random_crop": True}
    batches = HostStream(noise(count), repeats=repeats, **options)
    stream = joined([batches.host_batch(step, 1) for step in range(steps)])
    groups = stream["label"].reshape(-1, repeats)
    assert np.all(groups == groups[:, :1])
    passes = groups[: 2 * count, 0].reshape(2, count)
    np.testing.assert_array_equal(np.sort(passes), [range(count)] * 2)
    assert len({image.tobytes() for image in stream["image"]}) == len(stream["image"])


@pytest.mark.parametrize("repeats", [1, 2, 3])
def test_repeats_of_data_on_the_device(repeats):
    """Every pass over the data shows each example `repeats` times in a row; any window will do."""
    count, batch_size, steps = 5, 4, 12
    examples = ArrayExamples(np.zeros((count, 1, 1, 1), np.uint8), np.arange(count))
    sizes = {"batch_size": batch_size, "eval_batch_size": 1}
    data = OnDevice(examples, examples, None, None, **sizes, steps_per_call=2, repeats=repeats)
    labels = []
    for step in range(steps):
        windows = {first: data.window(first, 7) for first in range(step + 1)}
        of_step = data.window_number(step)
        taken = []
        for first, window in windows.items():
            if data.window_number(first) == of_step:
                places = window["offset"] + (step - first) * batch_size + np.arange(batch_size)
                taken.append(np.asarray(window["indices"])[places // repeats])
        assert all(np.array_equal(labels_, taken[0]) for labels_ in taken)
        labels.append(taken[0])
    groups = np.concatenate(labels)[: steps * batch_size // repeats * repeats].reshape(-1, repeats)
    assert np.all(groups == groups[:, :1])
    whole = groups[: len(groups) // count * count, 0].reshape(-1, count)
    np.testing.assert_array_equal(np.sort(whole), np.broadcast_to(np.arange(count), whole.shape))


def test_the_next_example_stands_in_for_a_damaged_one():
    """8 and 9 are damaged: 0 stands there, the end of the set being followed by its beginning."""
    damaged = [3, 8, 9]
    data = HostStream(Files(10, damaged), Geometry(None), batch_size=5, max_damaged=3)
    batch = joined([data.host_batch(step, 0) for step in range(4)])
    stands = {3: 4, 8: 0, 9: 0}
    expected = [stands.get(index, index) for index in batch["index"].tolist()]
    assert batch["label"].tolist() == expected
    np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], expected)
    skipped = {3: 1, 8: 2, 9: 1}
    assert batch["damaged"].tolist() == [skipped.get(i, 0) for i in batch["index"].tolist()]


def test_where_no_more_is_borne_the_image_is_blank():
    data = HostStream(Files(6, [1, 2, 3]), Geometry(None), batch_size=6, max_damaged=1)
    batch = data.host_batch(0, 0)
    by_index = {int(index): i for i, index in enumerate(batch["index"])}
    assert batch["damaged"][by_index[1]] == 2
    assert not batch["image"][by_index[1]].any()


@pytest.mark.slow
def test_worker_processes_change_nothing():
    options = {"batch_size": 4, "geometry": Geometry(6), "random_crop": True, "max_damaged": 2}
    examples = Files(10, [2])
    alone = HostStream(examples, **options)
    with_processes = HostStream(examples, num_processes=2, **options).host_batches(3, 0)
    for step, batch in enumerate(islice(with_processes, 5), start=3):
        assert_equal(batch, alone.host_batch(step, 0))
    with_processes.close()


def test_damaged_images_are_counted_once_named_and_limited():
    examples = Files(6, [1, 2, 4])
    damaged = DamagedImages(2)
    for index in (1, 2, 1):
        damaged.note(examples, index)
    assert [damage.name for damage in damaged.take_new()] == ["file 1", "file 2"]
    assert damaged.take_new() == []
    with pytest.raises(
        UserError, match="max_bad_examples = 2: 3 unreadable images.*file 2.*file 4"
    ):
        damaged.note(examples, 4)
    assert [damage.name for damage in damaged.take_new()] == ["file 4"]


def test_a_run_that_goes_on_does_not_tell_again():
    damaged = DamagedImages(2)
    damaged.add(DamagedImageError("a", "cut"))
    damaged.begin({"a": "cut", "b": "cut"})
    assert damaged.take_new() == []
    with pytest.raises(UserError, match="3 unreadable"):
        damaged.add(DamagedImageError("c", "cut"))


def test_a_lower_limit_holds_for_images_that_were_told():
    """Where nothing stands in for one that was borne, the run would train on a blank image."""
    damaged = DamagedImages(0)
    damaged.begin({"a": "cut"})
    with pytest.raises(
        UserError, match="max_bad_examples = 0: 1 unreadable image; the last: a .cut."
    ):
        damaged.add(DamagedImageError("a", "cut"))


def test_damaged_images_are_left_out_of_decoded_splits(tmp_path):
    """Again where they come from the cache."""
    files = {f"train/a/{i}.png": Files(4).files[i] for i in range(4)}
    files["train/a/2.png"] = b"text"
    source = open_source(f"folder:{write_folder(tmp_path / 'set', files)}")
    arguments = {
        "geometry": Geometry(8),
        "directory": tmp_path / "cache",
        "num_threads": 2,
    }
    with pytest.raises(
        UserError, match="0: 1 unreadable image; the last: .*2.png .is no image file"
    ):
        cache.decoded(source, "train", **arguments)
    for _ in range(2):
        damaged = DamagedImages(1)
        examples = cache.decoded(source, "train", damaged=damaged, **arguments)
        assert examples.images[:, 0, 0, 0].tolist() == [0, 1, 3]
        (damage,) = damaged.take_new()
        assert damage.name.endswith("2.png")
    with pytest.raises(UserError, match="max_bad_examples"):
        cache.decoded(source, "train", damaged=DamagedImages(0), **arguments)


def test_statistics_leave_damaged_images_out(tmp_path):
    source = Source("set", ("a",), (8, 8, 3), ("train", "test"), Files, str)
    examples = Files(4, [0])
    mean, _ = cache.statistics(source, "train", Geometry(None), examples, directory=tmp_path)
    np.testing.assert_allclose(mean, [2 / 255] * 3)
    with pytest.raises(UserError, match="no image that can be read"):
        cache.statistics(source, "test", Geometry(None), Files(2, [0, 1]), directory=tmp_path)
