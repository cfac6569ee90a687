"""Files replaced whole or not at all."""

import os

import pytest

from resnet_jax.files import (
    PARTIAL,
    check_regular,
    flush_tree,
    make_directory,
    read_file,
    replaced,
    write_file,
)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    write_file(path, "first ±")

    def fail():
        with replaced(path) as file:
            file.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "first ±"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path):
    write_file(tmp_path / ("x" * 255), b"content")
    assert (tmp_path / ("x" * 255)).read_bytes() == b"content"


def test_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "other").write_text("untouched")
    (tmp_path / "link").symlink_to(tmp_path / "other")
    write_file(tmp_path / "link", "content")
    assert (tmp_path / "other").read_text() == "untouched"
    assert not (tmp_path / "link").is_symlink()


def test_the_umask_decides_who_may_read(tmp_path):
    old = os.umask(0o027)
    try:
        write_file(tmp_path / "file", "content")
    finally:
        os.umask(old)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_all_is_on_the_disk_before_the_new_name_is_and_the_name_afterwards(tmp_path, monkeypatch):
    calls = []
    replace, fsync = os.replace, os.fsync
    monkeypatch.setattr(os, "replace", lambda *paths: (calls.append("replace"), replace(*paths)))
    monkeypatch.setattr(
        os,
        "fsync",
        lambda number: (calls.append(os.readlink(f"/proc/self/fd/{number}")), fsync(number)),
    )
    write_file(tmp_path / "file", "content")
    partial, replaced_then, directory = calls
    assert partial.startswith(f"{tmp_path}/.")
    assert partial.endswith(PARTIAL[-8:])
    assert (replaced_then, directory) == ("replace", str(tmp_path))


def test_new_directories_and_all_in_them_are_flushed(tmp_path, monkeypatch):
    flushed = set()
    monkeypatch.setattr(
        os, "fsync", lambda number: flushed.add(os.readlink(f"/proc/self/fd/{number}"))
    )
    make_directory(tmp_path / "a" / "b")
    assert flushed == {str(tmp_path), str(tmp_path / "a")}
    (tmp_path / "a" / "b" / "file").touch()
    flushed.clear()
    flush_tree(tmp_path / "a")
    assert flushed == {str(tmp_path / part) for part in ("a", "a/b", "a/b/file")}


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_only_regular_files_are_read(tmp_path, make):
    make(tmp_path / "x")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match=r"not a regular file|Is a directory"):
        read_file(tmp_path / "x", 100)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_is_read_up_to_a_size(tmp_path):
    (tmp_path / "x").write_bytes(b"12345")
    assert read_file(tmp_path / "x", 5) == b"12345"
    with pytest.raises(OSError, match="its 5 bytes are more than the 4 that are read"):
        read_file(tmp_path / "x", 4)


def test_a_pipe_in_a_directory_is_found(tmp_path):
    write_file(tmp_path / "a", "x")
    (tmp_path / "gone").symlink_to("nowhere")
    check_regular(tmp_path)
    (tmp_path / "below").mkdir()
    os.mkfifo(tmp_path / "below" / "pipe")
    with pytest.raises(OSError, match="not a regular file.*below/pipe"):
        check_regular(tmp_path)
