"""Paths that a user gives: checked before anything is written."""

import os
import re
from collections.abc import Callable
from pathlib import Path

from resnet_jax.errors import UserError

# A run directory has names of its own below it.
ROOM_BELOW = 300


class NoHomeError(UserError):
    """A path begins with `~`, and there is no home directory."""


def is_url(text: str) -> bool:
    """Whether a path is a URL, such as `gs://bucket/run`, which Python would take for a directory."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def expanded(option: str, text: str) -> Path:
    """A path with the user's home directory in place of `~`.

    Raises:
        NoHomeError: there is no home directory.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        problem = "begins in a home directory, and there is none"
        raise NoHomeError(option, text, problem, "set it to a full path") from error


def is_utf8(text: str) -> bool:
    """Whether a path has bytes in UTF-8, which names of files need not have."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def local_path(option: str) -> Callable[[str], str]:
    """A check for `option`: returns the path it is given, or raises.

    Raises:
        UserError: it is empty, a URL, or no path that the system allows.
    """

    def check(text: str) -> str:
        if not text:
            raise UserError(option, text, "is empty", "name a directory or file")
        if is_url(text):
            problem = "is a URL; only paths of mounted file systems can be used"
            raise UserError(option, text, problem, "mount it, or write here and copy it there")
        if problem := _impossible(text):
            raise UserError(option, text, problem, "use a shorter or another name")
        return text

    return check


def _impossible(text: str) -> str:
    """Why the system has no such path; empty where it may have it."""
    try:
        path = os.fsencode(os.path.abspath(text))
    except UnicodeEncodeError:
        return "has characters that no file name can have"
    if b"\0" in path:
        return "has a NUL character, which no file name can have"
    there = path
    while not os.path.exists(there):
        there = os.path.dirname(there)
    longest = max(map(len, path.split(b"/")))
    limit = os.pathconf(there, "PC_NAME_MAX")
    if longest > limit:
        return f"has a name of {longest} bytes; the file system allows {limit}"
    limit = os.pathconf(there, "PC_PATH_MAX") - ROOM_BELOW
    return f"has {len(path)} bytes; {limit} can be used" if len(path) > limit else ""
