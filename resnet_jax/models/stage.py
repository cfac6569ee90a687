"""A stage: blocks of one width, one after the other or as one compiled loop.

The first block may change channels and resolution; the others are alike. Unrolled, they lie in
`blocks`. Scanned, their arrays are stacked in `scanned`, so that XLA compiles one of them
(`lax.scan`), whatever the depth. `stack_blocks` and `unstack_blocks` turn one layout into the other.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from resnet_jax.models.choices import member
from resnet_jax.models.key_stream import KeyStream
from resnet_jax.models.stochastic import fold

Arrays = dict[Any, Any]
# From here on a scanned net is initialised, traced and compiled faster (docs/performance.md).
SCAN_FROM = 9
REMAT = ("none", "block", "stage")


class Stage(nnx.Module):
    """Blocks of one width.

    Args:
        make_block: called as `make_block(in_channels, survival, stride=, first=, rngs=)`.
        in_channels: channels of the input.
        stride: of the first block.
        first: it is the first stage of a network.
        survival: survival probability of every block, in order.
        scan: run the blocks after the first as one loop.
        remat: `block` or `stage`: keep only their inputs for the backward pass and compute the rest
            again; `none`.
        rngs: the stream `params`.

    Attributes:
        blocks: the blocks; only the first where the others are scanned.
        scanned: one block whose arrays have a leading axis over the others; None where there are none.
        out_channels: channels of the output.
    """

    def __init__(
        self,
        make_block: Callable[..., Any],
        in_channels: int,
        *,
        stride: int,
        first: bool,
        survival: tuple[float, ...],
        scan: bool,
        remat: str,
        rngs: KeyStream,
    ) -> None:
        self.remat = member("remat", remat, REMAT)
        self.survival: Any = survival
        keys = rngs.several(len(survival))

        def other(key: jax.Array, probability: float = survival[-1]) -> nnx.Module:
            return make_block(self.out_channels, probability, rngs=KeyStream(key))

        block = make_block(
            in_channels, survival[0], stride=stride, first=first, rngs=KeyStream(keys[0])
        )
        self.out_channels = block.out_channels
        unrolled = [] if scan else list(map(other, keys[1:], survival[1:]))
        self.blocks = nnx.List([block, *unrolled])
        self.scanned: Any = nnx.data(_stacked(other, keys[1:]) if scan and len(keys) > 1 else None)

    def windows(self) -> list[tuple[int, int]]:
        """(size, stride) of every sliding window on the path through all branches, in order."""
        blocks = [*self.blocks]
        if self.scanned is not None:
            blocks += [self.scanned] * (len(self.survival) - 1)
        return [window for block in blocks for window in block.branch.windows()]

    def set_survival(self, survival: tuple[Any, ...]) -> None:
        """Replace the survival probability of every block, in order; those in a loop read `survival`."""
        for block, probability in zip(self.blocks, survival, strict=False):
            block.drop_path.set_survival(probability)
        traced = isinstance(survival[0], jax.Array)
        self.survival = nnx.data(jnp.stack(survival)) if traced else nnx.static(survival)

    def __call__(self, x: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        """Run all blocks.

        Args:
            x: float[batch, height, width, in_channels].
            keys: [batch], of dropout and stochastic depth; None in evaluation.
        """
        if self.remat == "stage":
            return _rematerialised(self, Stage._run, x, keys)
        return self._run(x, keys)

    def _run(self, x: jax.Array, keys: jax.Array | None) -> jax.Array:
        for number, block in enumerate(self.blocks):
            x = self._run_block(block, x, fold(keys, number))
        return x if self.scanned is None else self._scan(x, keys)

    def _run_block(self, block: Any, x: jax.Array, keys: Any, in_loop: bool = False) -> jax.Array:
        if self.remat == "block":
            return _rematerialised(block, _call, x, keys, in_loop=in_loop)
        return _call(block, x, keys)

    def _scan(self, x: jax.Array, keys: jax.Array | None) -> jax.Array:
        graphdef, arrays = nnx.split(self.scanned)
        numbers = jnp.arange(1, len(self.survival))
        stochastic = self.scanned.drop_path is not None
        probabilities = jnp.asarray(self.survival[1:], jnp.float32) if stochastic else None

        def body(x: jax.Array, block_arguments: tuple[Any, ...]) -> tuple[jax.Array, Arrays]:
            arrays, number, probability = block_arguments
            block: Any = nnx.merge(graphdef, arrays)
            if probability is not None:
                block.drop_path.set_survival(probability)
            y = self._run_block(block, x, fold(keys, number), in_loop=True)
            return y, _new_statistics(block, arrays)

        xs = (nnx.to_pure_dict(arrays), numbers, probabilities)
        x, statistics = lax.scan(body, x, xs)
        _set_statistics(self.scanned, statistics)
        return x


def _call(block: Any, x: jax.Array, keys: Any) -> jax.Array:
    return block(x, key=keys)


def _new_statistics(module: nnx.Module, before: Arrays) -> Arrays:
    """Those that are not the arrays the module was merged from: none in evaluation or where frozen."""
    after = nnx.to_pure_dict(nnx.state(module, nnx.BatchStat))
    return _changed(after, before)


def _changed(after: Arrays, before: Arrays) -> Arrays:
    new = {}
    for name, value in after.items():
        if isinstance(value, dict):
            value = _changed(value, before[name])
            if value:
                new[name] = value
        elif value is not before[name]:
            new[name] = value
    return new


def _set_statistics(module: Any, statistics: Arrays) -> None:
    # Even an update by nothing new may be forbidden, where another trace owns the module.
    if statistics:
        nnx.update(module, statistics)


def _stacked(make: Callable[[jax.Array], nnx.Module], keys: jax.Array) -> nnx.Module:
    """One module whose arrays have a leading axis over `keys`."""
    graphdef = nnx.graphdef(nnx.eval_shape(lambda: make(jax.random.key(0))))
    return nnx.merge(graphdef, jax.vmap(lambda k: nnx.to_pure_dict(nnx.state(make(k))))(keys))


def _rematerialised(
    module: Any, call: Callable[..., jax.Array], *arguments: Any, in_loop: bool = False
) -> jax.Array:
    """`call(module, *arguments)`, computed again in the backward pass."""
    graphdef, arrays = nnx.split(module)

    # Inside a loop XLA cannot merge the two computations, so nothing need keep them apart.
    @partial(jax.checkpoint, prevent_cse=not in_loop)
    def run(arrays: Arrays, *arguments: Any) -> tuple[jax.Array, Arrays]:
        merged = nnx.merge(graphdef, arrays)
        return call(merged, *arguments), _new_statistics(merged, arrays)

    result, statistics = run(nnx.to_pure_dict(arrays), *arguments)
    _set_statistics(module, statistics)
    return result


def stack_blocks(arrays: Arrays) -> Arrays:
    """Parameters or statistics of an unrolled network in the layout of a scanned one.

    Args:
        arrays: nested dict (`nnx.to_pure_dict`) with `stageN/blocks/I/…`.

    Returns:
        The same with `stageN/blocks/0/…` and `stageN/scanned/…`, which has a leading axis over the
        blocks 1, 2, ….
    """
    return {name: _stack(tree) if _is_stage(tree) else tree for name, tree in arrays.items()}


def unstack_blocks(arrays: Arrays) -> Arrays:
    """The inverse of `stack_blocks`."""
    return {name: _unstack(tree) if _is_stage(tree) else tree for name, tree in arrays.items()}


def _is_stage(tree: Any) -> bool:
    return isinstance(tree, dict) and "blocks" in tree


def _stack(stage: Arrays) -> Arrays:
    # Numbers may have become text where the tree was saved and read.
    first, *others = sorted(stage["blocks"], key=int)
    blocks = [stage["blocks"][number] for number in others]
    if not blocks:
        return stage
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks)
    return {"blocks": {first: stage["blocks"][first]}, "scanned": stacked}


def _unstack(stage: Arrays) -> Arrays:
    if "scanned" not in stage:
        return stage
    stacked = stage["scanned"]
    ((first, block),) = stage["blocks"].items()
    blocks = {first: block}
    for index in range(jax.tree.leaves(stacked)[0].shape[0]):
        number = type(first)(index + 1)
        blocks[number] = jax.tree.map(lambda leaf, index=index: leaf[index], stacked)
    return {"blocks": blocks}
