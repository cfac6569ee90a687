"""Whether a directory and the paths in its config come from this user, or from somebody else.

A run directory can be received. Its config.json names paths, and it may have links, which would make
a command that reads it open, write or delete what its user did not name. So `train` and `sweep` sign
what they make with a key that only this user can read, in `.origin`:

    paths       the paths that the user's own config named
    directory   this directory (its inode); a copy is another one

What is not signed still opens: its paths have to be confirmed, and its links must stay inside.
"""

import contextlib
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resnet_jax.errors import UserError
from resnet_jax.files import write_file
from resnet_jax.private_directory import private_directory
from resnet_jax.strict_json import to_json

FILE = ".origin"
_KEY_BYTES = 32


def sign(directory: Path, paths: Mapping[str, Any] | None = None) -> None:
    """Write down that this user made a directory; nothing happens where no key can be kept.

    Args:
        directory: of a run or sweep.
        paths: field → path, as the user's own config names them; None: nothing is said about paths.

    Raises:
        OSError: `directory` cannot be written.
    """
    key = _key(create=True)
    if key is None:
        return
    signed = {"directory": _signature(key, _directory(directory))}
    if paths is not None:
        signed["paths"] = _signature(key, dict(paths))
    if signed != _read(directory):
        write_file(directory / FILE, to_json(signed, indent=2) + "\n")


def is_own(directory: Path) -> bool:
    """Whether this user's `train` or `sweep` made this very directory."""
    return directory.exists() and _is_signed(directory, "directory", _directory(directory))


def are_named_by_user(directory: Path, paths: Mapping[str, Any]) -> bool:
    """Whether the paths in the config of a run are those that this user gave to `train` or `sweep`."""
    return _is_signed(directory, "paths", dict(paths))


def refuse_links(directory: Path) -> None:
    """Refuse a directory that somebody else may have made and that has a link to somewhere else.

    So are pipes and devices, which would be waited for without end.

    Raises:
        UserError: names the first.
    """
    if is_own(directory):
        return
    for folder, below, files in os.walk(directory):
        for path in (Path(folder, name) for name in (*below, *files)):
            refuse_link(directory, path)
            if not (path.is_symlink() or path.is_file() or path.is_dir()):
                problem = "is neither a file nor a directory"
                raise UserError("directory", str(path), problem, "remove it")


def refuse_link(directory: Path, path: Path) -> None:
    """Refuse a path below a directory that is a link to somewhere outside of it.

    Raises:
        UserError: it is, and this user's own commands did not make the directory.
    """
    if not path.is_symlink():
        return
    target, root = os.path.realpath(path), os.path.realpath(directory)
    if not Path(target).is_relative_to(root) and not is_own(directory):
        problem = f"is a link to {target}, outside of {directory}, which is not known to be yours"
        fix = "remove it; or where you trust it, use a copy that `cp -rL` made, without links"
        raise UserError("directory", str(path), problem, fix)


def _directory(directory: Path) -> int:
    return directory.stat().st_ino


def _signature(key: bytes, value: Any) -> str:
    return hmac.new(key, json.dumps(value, sort_keys=True).encode(), hashlib.sha256).hexdigest()


def _is_signed(directory: Path, what: str, value: Any) -> bool:
    key, stated = _key(create=False), _read(directory).get(what)
    if key is None or not isinstance(stated, str):
        return False
    return hmac.compare_digest(stated.encode(), _signature(key, value).encode())


def _read(directory: Path) -> dict[str, Any]:
    try:
        descriptor = os.open(directory / FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, encoding="utf-8") as file:
            content = json.loads(file.read(1000))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _key(create: bool) -> bytes | None:
    """The key of this user; None: there is none, or it could not be kept from others."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    try:
        path = Path(state).expanduser() / "resnet_jax" / "key"
        if not create and not path.exists():
            return None
        private_directory(path.parent)
        if not path.exists():
            _make_key(path)
        key = path.read_bytes()
    # The second: there is no home directory.
    except (OSError, RuntimeError):
        return None
    return key if len(key) == _KEY_BYTES else None


def _make_key(path: Path) -> None:
    partial = path.with_name(f".{secrets.token_hex(6)}.partial")
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secrets.token_bytes(_KEY_BYTES))
    # The key of another process that makes one at this moment stays.
    with contextlib.suppress(FileExistsError):
        os.link(partial, path)
    partial.unlink()
