"""Digests of content, by which the cache knows what it holds. SHA-256 throughout, in threads."""

import hashlib
import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from resnet_jax.files import open_file

T = TypeVar("T")
_CHUNK = 2**24


def of_facts(*facts: Any) -> str:
    """Digest of JSON-serialisable values, in which the digests of larger things may be."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def of_bytes(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()


def of_array(array: np.ndarray) -> str:
    """Digest of shape, type and numbers."""
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    chunks = [flat[start : start + _CHUNK] for start in range(0, len(flat), _CHUNK)]
    return of_facts(array.shape, array.dtype.str, of_each(of_bytes, chunks))


def of_file(path: str | Path, largest: int | None = None) -> str:
    """Digest of a file's bytes.

    Args:
        path, largest: as of `open_file`.

    Raises:
        OSError: as `open_file`.
    """
    with open_file(path, largest) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_each(digest: Callable[[T], str], things: Iterable[T]) -> str:
    """Digest of the digests of several things, in their order; made in threads."""
    with ThreadPoolExecutor() as pool:
        return of_facts(list(pool.map(digest, things)))
