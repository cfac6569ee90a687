"""Checkpoints: the same bits back, on any devices, or damage is noticed; which are kept."""

import os
import random
import shutil
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from resnet_jax.config import Config, override
from resnet_jax.errors import UserError
from resnet_jax.random_streams import run_key
from resnet_jax.training.checkpoint import Checkpoints, DamagedCheckpointError
from resnet_jax.training.experiment import make_experiment
from resnet_jax.training.integrity import checksums, sealed, unsealed
from resnet_jax.training.restore import chosen_step, restored
from resnet_jax.training.run_directory import RunDirectory


def experiment_of(config, **fields):
    fields = {name.replace("__", "."): value for name, value in fields.items()}
    return make_experiment(override(config, {"train.ema_decay": 0.5, **fields}))


def fresh(experiment):
    return experiment.programs.initialise(run_key(0))


def assert_equal(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lars", "lamb"])
def test_a_saved_state_comes_back_bit_by_bit(small_config, tmp_path, optimizer):
    experiment = experiment_of(small_config, optimizer__name=optimizer)
    state = fresh(experiment)
    with Checkpoints(tmp_path, {}) as checkpoints:
        checkpoints.save(3, state, {"totals": {"loss": 0.1}})
        checkpoints.wait()
        restored, meta = checkpoints.restore(3, experiment.state_shapes())
    assert_equal(restored, state)
    assert meta == {"totals": {"loss": 0.1}}


def test_what_is_counted_during_a_save_is_not_saved(small_config, tmp_path):
    counted = threading.Event()

    class WrittenLate(dict):
        def items(self):
            if threading.current_thread() is not threading.main_thread():
                counted.wait(60)
            return super().items()

    experiment = experiment_of(small_config)
    totals = WrittenLate(count=16)
    with Checkpoints(tmp_path, {}) as checkpoints:
        # The first save is waited for.
        checkpoints.save(0, fresh(experiment), {})
        checkpoints.save(1, fresh(experiment), {"totals": totals})
        totals["count"] += 16
        counted.set()
        checkpoints.wait()
        _, meta = checkpoints.restore(1, experiment.state_shapes())
    assert meta == {"totals": {"count": 16}}


@pytest.mark.parametrize("saved_as", ["jit", "pmap"])
@pytest.mark.parametrize("restored_as", ["jit", "pmap"])
def test_saved_on_eight_devices_restored_on_others(small_config, tmp_path, saved_as, restored_as):
    eight = experiment_of(small_config, parallel__mode=saved_as, parallel__num_devices=8)
    placed = eight.parallel.place(fresh(eight))
    with Checkpoints(tmp_path, {}) as checkpoints:
        checkpoints.save(1, eight.parallel.take(placed), {})
        checkpoints.wait()
        for devices in (1, 2, 8):
            other = experiment_of(
                small_config, parallel__mode=restored_as, parallel__num_devices=devices
            )
            state, _ = checkpoints.restore(1, other.state_shapes())
            assert_equal(other.parallel.take(other.parallel.place(state)), fresh(eight))


def test_the_newest_and_the_best_are_kept(small_config, tmp_path):
    state = fresh(experiment_of(small_config))
    accuracies = {1: 0.5, 2: 0.9, 3: None, 4: 0.7, 5: None, 6: 0.6}
    evaluations = {}
    with Checkpoints(tmp_path, evaluations, keep_last=2, keep_best=1) as checkpoints:
        assert checkpoints.latest() is None
        for step, accuracy in accuracies.items():
            if accuracy is not None:
                evaluations[step] = {"accuracy": accuracy}
            checkpoints.save(step, state, {})
            checkpoints.wait()
        assert checkpoints.steps() == [2, 5, 6]
        assert checkpoints.latest() == checkpoints.saved_step == 6
    with Checkpoints(tmp_path, evaluations, read_only=True) as reopened:
        assert reopened.latest() == 6
    run = RunDirectory(tmp_path)
    run.checkpoints = tmp_path
    for step, result in evaluations.items():
        run.log("eval", step, **result)
    assert (chosen_step(run, "latest"), chosen_step(run, "best")) == (6, 2)


def test_a_checkpoint_has_its_name_once_it_is_on_the_disk_and_older_ones_go_afterwards(
    small_config, tmp_path, monkeypatch
):
    # What os.fsync was called for, and the checkpoints with a name at that time.
    flushed, fsync = [], os.fsync

    def note(descriptor):
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        there = {int(p.name) for p in tmp_path.iterdir() if p.name.isdecimal()}
        flushed.append((path.relative_to(tmp_path), there))
        fsync(descriptor)

    state = fresh(experiment_of(small_config))
    with Checkpoints(tmp_path, {}, keep_last=1, keep_best=0) as checkpoints:
        checkpoints.save(1, state, {})
        monkeypatch.setattr(os, "fsync", note)
        checkpoints.save(2, state, {})
        checkpoints.wait()
        assert checkpoints.steps() == [2]
    before = {str(path) for path, there in flushed if there == {1}}
    before = {path.replace(".orbax-checkpoint-tmp", "") for path in before}
    content = {str(path.relative_to(tmp_path)) for path in (tmp_path / "2").rglob("*")}
    # Of these, the restore reads none.
    last = {"2/commit_success.txt", "2/_CHECKPOINT_METADATA"}
    assert before >= content - last
    assert flushed[-1] == (Path(), {1, 2})
    assert {str(path) for path, there in flushed if there == {1, 2}} >= content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2"]


def test_what_a_kill_left_of_deleted_checkpoints_is_deleted(tmp_path):
    (tmp_path / "superseded" / "1").mkdir(parents=True)
    with Checkpoints(tmp_path, {}, read_only=True):
        assert (tmp_path / "superseded").exists()
    with Checkpoints(tmp_path, {}) as checkpoints:
        assert checkpoints.steps() == []
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_is_deleted_while_it_is_read_gives_way_to_the_newest(
    small_config, tmp_path, monkeypatch
):
    experiment, run = experiment_of(small_config), RunDirectory(tmp_path)
    with Checkpoints(run.checkpoints, {}) as checkpoints:
        checkpoints.save(1, fresh(experiment), {})
        checkpoints.wait()
        shutil.copytree(run.checkpoints / "1", tmp_path / "3")
    read = Checkpoints._read_item

    def delete_first(checkpoints, step, name, args):
        if step == 1:
            (run.checkpoints / "1").rename(tmp_path / "superseded")
            (tmp_path / "3").rename(run.checkpoints / "3")
        return read(checkpoints, step, name, args)

    monkeypatch.setattr(Checkpoints, "_read_item", delete_first)
    state, step = restored(run, "latest", experiment.state_shapes())
    assert step == 3
    assert_equal(state, fresh(experiment))
    (run.checkpoints / "3").rename(tmp_path / "3")
    (tmp_path / "superseded").rename(run.checkpoints / "1")
    with pytest.raises(UserError, match="1': was deleted while it was read; use a newer one"):
        restored(run, "1", experiment.state_shapes())


def test_checkpoint_of_another_model_or_optimiser_is_refused(small_config, tmp_path):
    with Checkpoints(tmp_path, {}) as checkpoints:
        checkpoints.save(1, fresh(experiment_of(small_config)), {})
        checkpoints.wait()
        for fields in (
            {"model__depth": 14},
            {"optimizer__name": "adamw"},
            {"model__shortcut": "C"},
        ):
            other = experiment_of(small_config, **fields)
            with pytest.raises(UserError, match="is of another model or optimiser"):
                checkpoints.restore(1, other.state_shapes())
        with pytest.raises(UserError, match="has 1$"):
            checkpoints.restore(2, experiment_of(small_config).state_shapes())


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A directory with a checkpoint of step 1, its state and its meta."""
    fields = {"model.depth": 8, "data.pad": 1, "parallel.num_devices": 1}
    experiment = make_experiment(override(Config(), fields))
    state, meta = fresh(experiment), {"totals": {"loss": 0.1}, "seconds": 2.0}
    directory = tmp_path_factory.mktemp("saved")
    with Checkpoints(directory, {}) as checkpoints:
        checkpoints.save(1, state, meta)
    return directory, state, meta, experiment.state_shapes()


def flip_somewhere(checkpoint, rng):
    """Flip a bit of a file, each as likely; returns which."""
    path = rng.choice(sorted(p for p in checkpoint.rglob("*") if p.stat().st_size and p.is_file()))
    data = bytearray(path.read_bytes())
    place, bit = rng.randrange(len(data)), rng.randrange(8)
    data[place] ^= 1 << bit
    path.write_bytes(data)
    return path.name, place, bit


@pytest.mark.parametrize("flips", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_flipped_bit_is_noticed_or_changes_nothing(saved, tmp_path, flips):
    directory, state, meta, shapes = saved
    rng, noticed = random.Random(flips), 0
    for attempt in range(flips):
        copy = tmp_path / str(attempt)
        shutil.copytree(directory, copy)
        where = flip_somewhere(copy / "1", rng)
        with Checkpoints(copy, {}) as checkpoints:
            try:
                restored, restored_meta = checkpoints.restore(1, shapes)
            except DamagedCheckpointError:
                noticed += 1
                continue
        assert restored_meta == meta, where
        jax.tree.map(np.testing.assert_array_equal, restored, state)
        shutil.rmtree(copy)
    # A third on average, with a standard deviation of 4 of 40: a quarter failed one time in ten.
    assert noticed > flips / 8


def test_a_flipped_bit_of_the_arrays_is_noticed(saved, tmp_path):
    """TensorStore reads such a file without complaint."""
    directory, _, _, shapes = saved
    rng = random.Random(0)
    for attempt in range(5):
        copy = tmp_path / str(attempt)
        shutil.copytree(directory, copy)
        path = max((copy / "1").rglob("*"), key=lambda path: path.stat().st_size)
        data = bytearray(path.read_bytes())
        data[rng.randrange(len(data) // 2)] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        with (
            Checkpoints(copy, {}) as checkpoints,
            pytest.raises(DamagedCheckpointError, match="/1': is damaged"),
        ):
            checkpoints.restore(1, shapes)


def by_hand(array):
    """The checksum as integrity.py states it, in NumPy."""
    words = np.ascontiguousarray(array).reshape(-1).view(f"u{min(array.dtype.itemsize, 4)}")
    weights = 2 * np.arange(words.size, dtype=np.uint64) + 1
    return int((words.astype(np.uint64) * weights % 2**32).sum() % 2**32)


@given(
    hnp.arrays(
        st.sampled_from(["float32", "float16", "int32", "uint8", "bool"]),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=1),
    )
)
def test_the_checksum_is_what_it_says(array):
    assert checksums({"a": jnp.asarray(array)}) == {"a": by_hand(array)}


def test_the_checksum_of_double_precision(x64):
    array = np.random.default_rng(0).standard_normal((3, 5))
    assert checksums({"a": jnp.asarray(array)}) == {"a": by_hand(array)}


@given(hnp.arrays("float32", (4, 6)), st.integers(0, 23), st.integers(0, 31))
def test_a_change_of_one_bit_always_changes_the_checksum(array, place, bit):
    changed = array.copy()
    changed.reshape(-1).view("u4")[place] ^= np.uint32(1 << bit)
    assert checksums({"a": jnp.asarray(array)}) != checksums({"a": jnp.asarray(changed)})


def test_the_checksum_is_the_same_however_an_array_is_sharded():
    array = np.random.default_rng(0).standard_normal((16, 8)).astype(np.float32)
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
    for spec in (PartitionSpec(), PartitionSpec("a"), PartitionSpec("b", "a")):
        placed = jax.device_put(array, NamedSharding(mesh, spec))
        assert checksums({"x": placed}) == {"x": by_hand(array)}


def test_sealed_content_that_was_changed_does_not_open():
    content = {"totals": {"loss": 0.1 + 0.2}, "step": 3}
    assert unsealed(sealed(content)) == content
    assert unsealed(sealed(content) | {"content": content | {"step": 4}}) is None
    assert unsealed({"crc33": 1, "content": content}) is None


def test_a_save_without_room_is_refused_before_it_begins(small_config, tmp_path, monkeypatch):
    state = fresh(experiment_of(small_config))
    with Checkpoints(tmp_path, {}) as checkpoints:
        usage = shutil.disk_usage(tmp_path)._replace(free=1000)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
        with pytest.raises(UserError, match=r"it needs .* MB, and 0\.0 MB are free"):
            checkpoints.save(1, state, {})
    assert not list(tmp_path.iterdir())


# Number of devices, and over how many of them a state is sharded.
PLACES = [(8, 1), (8, 4), (4, 1), (2, 2), (1, 1)]


def test_a_state_moves_between_any_two_numbers_of_devices_and_shards(small_config, tmp_path):
    experiments = {
        place: experiment_of(small_config, parallel__num_devices=place[0], parallel__fsdp=place[1])
        for place in PLACES
    }
    expected = fresh(experiments[1, 1])
    for first in [(8, 4), (1, 1)]:
        with Checkpoints(tmp_path / str(first), {}) as checkpoints:
            parallel = experiments[first].parallel
            checkpoints.save(1, parallel.take(parallel.place(expected)), {})
            checkpoints.wait()
            for place in PLACES:
                shapes = experiments[place].state_shapes()
                state, _ = checkpoints.restore(1, shapes)
                assert_equal(state, expected)
                lie = jax.tree.map(lambda a, b: a.sharding == b.sharding, state, shapes)
                assert jax.tree.all(lie)
