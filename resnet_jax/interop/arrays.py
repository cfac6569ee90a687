"""The arrays of a network by dotted name, always in the unrolled layout, and their layouts in torch."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from resnet_jax.models import ResNet, stack_blocks, unstack_blocks

_VARIABLES = nnx.Any(nnx.Param, nnx.BatchStat)


def _tree(model: ResNet) -> dict[Any, Any]:
    return nnx.to_pure_dict(nnx.state(model, _VARIABLES))


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _by_name(tree: Any) -> dict[str, Any]:
    return {_name(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def shapes(model: ResNet) -> dict[str, jax.ShapeDtypeStruct]:
    """Name → shape and type of every parameter and statistic; the model may be abstract."""
    return _by_name(jax.eval_shape(unstack_blocks, _tree(model)))


def read_arrays(model: ResNet) -> dict[str, np.ndarray]:
    """Name → value of every parameter and statistic."""
    return _by_name(unstack_blocks(jax.tree.map(np.asarray, _tree(model))))


def write_arrays(model: ResNet, values: dict[str, np.ndarray]) -> None:
    """Set the parameters and statistics named in `values`, on the devices where they are."""
    old = _tree(model)
    is_scanned = any("scanned" in part for part in old.values() if isinstance(part, dict))
    new = jax.tree.map_with_path(
        lambda path, leaf: values.get(_name(path), leaf),
        unstack_blocks(jax.tree.map(np.asarray, old)),
    )
    new = stack_blocks(new) if is_scanned else new
    # Copied first: `device_put` may share the memory of a NumPy array, which its owner may change.
    nnx.update(model, jax.tree.map(lambda n, o: jax.device_put(jnp.array(n), o.sharding), new, old))


def to_torch(array: np.ndarray, convolutional_head: bool = False) -> np.ndarray:
    """HWIO to OIHW, linear [in, out] to [out, in], or to [out, in, 1, 1] for a convolutional head."""
    if array.ndim == 4:
        array = array.transpose(3, 2, 0, 1)
    elif array.ndim == 2:
        array = array.T[:, :, None, None] if convolutional_head else array.T
    return np.array(array, order="C")


def from_torch(array: np.ndarray, ndim: int) -> np.ndarray:
    """The inverse for an array that has `ndim` axes with us; 1×1 convolutions are linear layers."""
    if array.ndim == 2:
        array = array[:, :, None, None]
    if array.ndim == 4:
        array = array.transpose(2, 3, 1, 0)
        if ndim == 2 and array.shape[:2] == (1, 1):
            array = array[0, 0]
    elif ndim == 0 and array.size == 1:
        array = array.reshape(())
    return array


def torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that an array of ours has in torch."""
    return {4: shape[3:4] + shape[2:3] + shape[:2], 2: shape[::-1]}.get(len(shape), shape)
