"""A directory is known as the user's own, and a copy or an edited config is not."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from resnet_jax import origin
from resnet_jax.errors import UserError

PATHS = {"data.data_dir": "/data", "data.name": "folder:images"}


@pytest.fixture
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def own(tmp_path, state):
    directory = tmp_path / "own"
    directory.mkdir()
    origin.sign(directory, PATHS)
    return directory


def test_paths_and_directory_are_the_users_until_they_change(own, tmp_path):
    assert origin.is_own(own)
    assert origin.are_named_by_user(own, PATHS)
    assert not origin.are_named_by_user(own, PATHS | {"data.data_dir": "/etc"})
    assert not origin.are_named_by_user(own, {})
    own.rename(tmp_path / "renamed")
    assert origin.is_own(tmp_path / "renamed")


def test_a_copy_is_not_the_directory_and_has_the_paths(own, tmp_path):
    shutil.copytree(own, tmp_path / "copy")
    assert not origin.is_own(tmp_path / "copy")
    assert origin.are_named_by_user(tmp_path / "copy", PATHS)


def test_the_signature_of_another_user_is_none(own, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
    assert not origin.is_own(own)
    (tmp_path / "mine").mkdir()
    origin.sign(tmp_path / "mine", PATHS)
    assert origin.is_own(tmp_path / "mine")
    assert not origin.are_named_by_user(own, PATHS)


@pytest.mark.parametrize("text", ["", "[]", "{}", "\xff", '{"directory": 1}', '{"directory": "é"}'])
def test_odd_signatures_are_none(own, text):
    (own / ".origin").write_text(text, encoding="latin-1")
    assert not origin.is_own(own)


def test_a_signature_is_not_read_through_a_link_or_a_pipe(own, tmp_path):
    (own / ".origin").rename(tmp_path / "elsewhere")
    (own / ".origin").symlink_to(tmp_path / "elsewhere")
    assert not origin.is_own(own)
    (own / ".origin").unlink()
    os.mkfifo(own / ".origin")
    assert not origin.is_own(own)


def test_nobody_else_can_read_the_key(own, state):
    key = state / "resnet_jax" / "key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    key.parent.chmod(0o777)
    assert not origin.is_own(own)


def test_without_a_place_for_a_key_nothing_is_signed(tmp_path, monkeypatch):
    def no_home(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "expanduser", no_home)
    origin.sign(tmp_path, PATHS)
    assert not origin.is_own(tmp_path)
    assert not list(tmp_path.iterdir())


def test_processes_that_make_the_key_at_once_have_one(tmp_path):
    program = "import sys; from resnet_jax.origin import _key; print(_key(create=True).hex())"
    words = [sys.executable, "-c", program]
    environment = os.environ | {"XDG_STATE_HOME": str(tmp_path)}
    processes = [
        subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert len({process.communicate()[0] for process in processes}) == 1
    assert [path.name for path in (tmp_path / "resnet_jax").iterdir()] == ["key"]


def test_links_that_stay_inside_are_allowed(tmp_path, state):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "best").symlink_to("checkpoints")
    origin.refuse_links(tmp_path / "run")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path, state):
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(UserError, match="neither a file nor a directory"):
        origin.refuse_links(tmp_path)


@pytest.mark.parametrize("target", ["../secret", "/etc/passwd", "checkpoints/../../secret", "loop"])
@pytest.mark.parametrize("name", ["config.json", "checkpoints/5"])
def test_links_that_lead_outside_are_refused_except_in_an_own_directory(
    tmp_path, state, name, target
):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (tmp_path / "secret").write_text("")
    (run / name).symlink_to(run / target if ".." in target else target)
    if target == "loop":
        (run / "loop").symlink_to("loop")
        origin.refuse_links(run)
        return
    with pytest.raises(UserError, match=f"^directory = '{run}/{name}': is a link to /"):
        origin.refuse_links(run)
    origin.sign(run)
    origin.refuse_links(run)
