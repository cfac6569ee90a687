"""Directories of any name: what is saved in them comes back."""

import os
import tempfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_jax.errors import UserError
from resnet_jax.training.checkpoint import Checkpoints
from resnet_jax.training.open_directory import OpenDirectory
from resnet_jax.training.state import TrainState

NASTY = [
    "run[1]", "[!a]", "*", "?", "{x}", "%41", "~", "-x", "run ", " ", "a\nb", "back\\slash", "it's",
    'say "x"', "#1", "$HOME", "🙂", "caf\udce9", "é" * 127, "x" * 255, "gs:", "a,b;c&d|e", "\x01\x7f",
    "7.orbax-checkpoint-tmp",
]  # fmt: skip
# Bytes as a file system has them: anything but a slash and a zero, at most 255 of them.
names = (
    st.binary(min_size=1, max_size=255)
    .map(lambda name: name.replace(b"/", b"[").replace(b"\0", b"*"))
    .filter(lambda name: name not in (b".", b".."))
    .map(os.fsdecode)
)


def tiny_state(number=0):
    weights = {"w": jnp.full((2, 3), float(number))}
    return TrainState(jnp.int32(7), weights, {"mean": jnp.zeros(2)}, (jnp.ones(2),), {})


def saved_and_restored(directory):
    """What comes back from a directory, by another object, and the steps that are there."""
    with Checkpoints(directory, {}) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, tiny_state(step), {"step": step})
    with Checkpoints(directory, {}, read_only=True) as again:
        state, meta = again.restore(3, tiny_state())
        assert again.latest() == 3
        assert meta == {"step": 3}
    np.testing.assert_array_equal(state.params["w"], np.full((2, 3), 3.0))
    return sorted(os.listdir(directory))


@pytest.mark.parametrize("name", NASTY, ids=ascii)
def test_checkpoints_come_back_from_a_directory_of_any_name(tmp_path, name):
    assert saved_and_restored(tmp_path / name / "checkpoints") == ["2", "3"]


@settings(max_examples=10, deadline=None)
@given(names)
def test_checkpoints_come_back_from_a_directory_of_random_bytes(name):
    # Of one length with any name, which a failure could leave where pytest cannot remove it.
    with tempfile.TemporaryDirectory() as directory:
        assert saved_and_restored(Path(directory) / name) == ["2", "3"]


def test_relative_paths_and_links_lead_where_the_system_says(tmp_path, monkeypatch):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "er")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert saved_and_restored(Path("../link/../run")) == ["2", "3"]
    assert (tmp_path / "deep" / "run" / "3").is_dir()
    assert not (tmp_path / "run").exists()


def test_a_directory_that_cannot_be_opened_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for directory in (tmp_path / "file", tmp_path / "file" / "checkpoints", tmp_path / ("x" * 256)):
        with pytest.raises(UserError, match=r"is not a directory|cannot be opened \(File name too"):
            Checkpoints(directory, {})
    with pytest.raises(UserError, match="cannot be opened"):
        Checkpoints(tmp_path / "none", {}, read_only=True)


class AsItIs(OpenDirectory):
    """Hands the directory's own name to Orbax, which reads `[1]` as a pattern."""

    def __init__(self, directory, create=False):
        super().__init__(directory, create)
        self.path = directory


def test_a_save_that_cannot_be_read_back_ends_the_run_and_deletes_nothing(tmp_path, monkeypatch):
    directory = tmp_path / "run[1]"
    with Checkpoints(directory, {}) as checkpoints:
        checkpoints.save(1, tiny_state(), {})
        checkpoints.save(2, tiny_state(), {})
    monkeypatch.setattr("resnet_jax.training.checkpoint.OpenDirectory", AsItIs)
    unreadable = pytest.raises(UserError, match=r"/3'.*was saved and cannot be read back")
    with Checkpoints(directory, {}, keep_last=1) as checkpoints, unreadable:
        checkpoints.save(3, tiny_state(), {})
    assert {"1", "2"} <= set(os.listdir(directory))
    monkeypatch.undo()
    with Checkpoints(directory, {}, read_only=True) as checkpoints:
        checkpoints.restore(2, tiny_state())


def test_messages_name_the_directory_itself(tmp_path):
    directory = OpenDirectory(tmp_path / "x[1]", create=True)
    assert directory.in_words(f"no {directory.path}/3") == f"no {tmp_path}/x[1]/3"
    directory.close()
    directory.close()


def test_a_system_without_descriptors_in_proc_refuses_what_it_could_not_read(tmp_path, monkeypatch):
    is_dir = Path.is_dir
    monkeypatch.setattr(Path, "is_dir", lambda path: "/proc/" not in str(path) and is_dir(path))
    assert saved_and_restored(tmp_path / "plain name é") == ["2", "3"]
    for name in ("run[1]", "a*", "caf\udce9"):
        with pytest.raises(UserError, match="use another name"):
            Checkpoints(tmp_path / name, {})
