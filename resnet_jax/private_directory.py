"""Directories of the user's own, in which nobody else can write or put another in their place."""

import os
import shlex
import stat
from pathlib import Path


class NotPrivateError(OSError):
    """Somebody else can change what is in a directory; the message says where, and how to fix it."""


def private_directory(path: Path) -> Path:
    """Make a directory where there is none, for this user alone, and check who can write to it.

    Every directory and link on the way to it must belong to this user or to root, and nobody else may
    write there; above it, directories such as /tmp, where all may write but nobody renames what is
    another's, are allowed.

    Returns:
        Its path, without links.

    Raises:
        NotPrivateError: somebody else can change its content.
        OSError: it cannot be made or looked at.
    """
    path = path.absolute()
    for place in [*reversed(path.parents), path]:
        if not place.exists():
            place.mkdir(mode=0o700 if place == path else 0o755, exist_ok=True)
    _refuse_others(path)
    # The links on the way may be relative to links themselves.
    resolved = path.resolve(strict=True)
    _refuse_others(resolved)
    return resolved


def _refuse_others(path: Path) -> None:
    for place in [*reversed(path.parents), path]:
        facts = place.lstat()
        if facts.st_uid not in (os.geteuid(), 0):
            raise NotPrivateError(f"{place} belongs to another user; use a directory of your own")
        if stat.S_ISLNK(facts.st_mode):
            _refuse_others(Path(os.path.normpath(place.parent / place.readlink())))
            continue
        shared = facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if shared and (place == path or not facts.st_mode & stat.S_ISVTX):
            quoted = shlex.quote(str(place))
            raise NotPrivateError(f"others can write to {place}; run `chmod go-w {quoted}`")
