"""A private directory is one in which nobody else can put anything."""

import os

import pytest

from resnet_jax.private_directory import NotPrivateError, private_directory


@pytest.fixture
def no_umask():
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("no_umask")
def test_what_is_made_is_for_the_user_alone(tmp_path):
    assert private_directory(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o755
    private_directory(tmp_path / "a" / "b")


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
@pytest.mark.parametrize("which", ["a", "a/b"])
def test_a_directory_that_others_can_write_to_is_refused(tmp_path, which, mode):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / which).chmod(mode)
    if (which, mode) == ("a", 0o1777):
        # As in /tmp, others cannot rename what is the user's.
        private_directory(tmp_path / "a" / "b")
        return
    with pytest.raises(NotPrivateError, match=f"chmod go-w {tmp_path / which}`$"):
        private_directory(tmp_path / "a" / "b")


def test_a_link_is_followed_and_all_that_it_passes_is_checked(tmp_path):
    (tmp_path / "open" / "own").mkdir(parents=True)
    (tmp_path / "middle").symlink_to("open/link")
    (tmp_path / "open" / "link").symlink_to(tmp_path / "own")
    (tmp_path / "own").mkdir()
    assert private_directory(tmp_path / "middle") == tmp_path / "own"
    # Others could make this link lead to another directory of the user's.
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(NotPrivateError, match="others can write"):
        private_directory(tmp_path / "middle")


def test_a_directory_of_another_user_is_refused(tmp_path, monkeypatch):
    if os.geteuid() == 0:
        os.chown(tmp_path, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(NotPrivateError, match="belongs to another user"):
        private_directory(tmp_path / "a")


def test_a_link_to_nowhere_is_an_error(tmp_path):
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(FileExistsError):
        private_directory(tmp_path / "link")
