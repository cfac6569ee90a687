"""What a checkpoint says of its own content, so that damage is noticed when it is read.

TensorStore checks its directories of chunks, and not the numbers in them. So each array has a
checksum that is computed where the array lies, before it is saved and after it is restored: it covers
the whole way there and back, and is the same on any number of devices and hosts.
"""

import json
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

UNSIGNED = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint32}


@jax.jit
def _checksum(array: jax.Array) -> jax.Array:
    """Σ bits[i] × (2i + 1) mod 2³², as uint32[]; i counts the 32-bit words.

    A sum of integers has no order, so the sharding does not matter. A factor that is odd has an
    inverse, so a change of one word always shows, and any other but once in 2³².
    """
    if array.dtype == jnp.bool_:
        array = array.astype(jnp.uint8)
    bits = lax.bitcast_convert_type(array, UNSIGNED[array.dtype.itemsize]).astype(jnp.uint32)
    weights, stride = jnp.ones((), jnp.uint32), 2
    for axis in reversed(range(bits.ndim)):
        weights += lax.broadcasted_iota(jnp.uint32, bits.shape, axis) * jnp.uint32(stride % 2**32)
        stride *= bits.shape[axis]
    return jnp.sum(bits * weights, dtype=jnp.uint32)


def checksums(tree: Any) -> dict[str, int]:
    """The checksum of each array of a tree, by its path."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    # A call each: they run at once, and arrays of one shape share a program.
    sums = []
    for _, array in leaves:
        sums.append(_checksum(array))
        # Programs that talk between processes must run in one order everywhere.
        if not array.sharding.is_fully_replicated:
            sums[-1].block_until_ready()
    sums = jax.device_get(sums)
    return {_name(path): int(value) for (path, _), value in zip(leaves, sums, strict=True)}


def shapes(tree: Any) -> dict[str, str]:
    """Type and shape of each array of a tree, by its path, such as `float32[3,3,16,16]`."""
    return {
        _name(path): f"{array.dtype}[{','.join(map(str, array.shape))}]"
        for path, array in jax.tree_util.tree_leaves_with_path(tree)
    }


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def difference(saved: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """The first entry in which two such dicts differ, in words; empty where they are equal."""
    for name in [*saved, *expected]:
        if saved.get(name) != expected.get(name):
            have, want = saved.get(name, "nothing"), expected.get(name, "nothing")
            return f"{name} is {have}, not {want}"
    return ""


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Content for a JSON file, with its checksum."""
    return {"content": dict(content), "crc32": _crc32(content)}


def unsealed(file: Any) -> dict[str, Any] | None:
    """The content of what `sealed` made; None where it is damaged."""
    if not isinstance(file, dict) or set(file) != {"content", "crc32"}:
        return None
    return file["content"] if file["crc32"] == _crc32(file["content"]) else None


def _crc32(content: Any) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())
