"""TensorBoard's events and traces that cannot be written cost no step."""

import contextlib
import resource

import jax.numpy as jnp
import pytest

from resnet_jax.errors import warn
from resnet_jax.training.profile import Profile
from resnet_jax.training.sinks import TensorBoard

LINE = {"event": "train", "step": 1, "loss": 1.5, "accuracy": 0.5}


@pytest.fixture(autouse=True)
def _every_warning_is_printed():
    # The same one is printed once in a process.
    warn.cache_clear()


@contextlib.contextmanager
def files_up_to(size):
    """Files that may not grow further, which to the writer is a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_events_that_cannot_be_written_are_left_out_in_one_line(tmp_path, capsys):
    pytest.importorskip("tensorboardX")
    events = TensorBoard(tmp_path / "tensorboard", 0)
    events.write(LINE)
    (path,) = (tmp_path / "tensorboard").iterdir()
    size = path.stat().st_size
    with files_up_to(size + 10):
        for step in range(100):
            events.write(LINE | {"step": step})
        events.close()
    errors = capsys.readouterr().err
    assert errors == (
        "warning: no more events for TensorBoard: they cannot be written (File too large)\n"
    )
    assert size <= path.stat().st_size <= size + 10


def test_no_directory_for_events_is_no_error_of_the_run(tmp_path, capsys):
    pytest.importorskip("tensorboardX")
    (tmp_path / "tensorboard").write_text("mine")
    events = TensorBoard(tmp_path / "tensorboard", 0)
    events.write(LINE)
    events.close()
    assert capsys.readouterr().err.startswith("warning: no more events for TensorBoard")
    assert (tmp_path / "tensorboard").read_text() == "mine"


def steps_of(profile, count):
    """Do steps, traced by the profile; returns how many were done."""
    done = 0
    for step in range(count):
        with profile.around(step, 1, lambda: jnp.zeros(2).block_until_ready()):
            done += 1
    profile.close()
    return done


def test_a_trace_that_cannot_be_written_is_left_out_in_one_line(tmp_path, capsys):
    profile = Profile(tmp_path / "profile", range(1, 3), print)
    with files_up_to(1000):
        assert steps_of(profile, 4) == 4
    errors = capsys.readouterr().err
    assert errors.startswith("warning: no trace: it cannot be written")
    assert str(tmp_path / "profile") in errors
    assert errors.count("\n") == 1


def test_no_directory_for_a_trace_is_no_error_of_the_run(tmp_path, capsys):
    (tmp_path / "profile").write_text("mine")
    assert steps_of(Profile(tmp_path / "profile", range(2), print), 3) == 3
    assert capsys.readouterr().err.startswith("warning: no trace: it cannot be written")
