"""A residual network as a chain of blocks: what the instruments take apart.

`split_chain` separates a network into a static `Chain` and its weights, in which the equal blocks of a
stage are stacked. Between stem and head, `Chain.blocks` runs the blocks one after the other by a
function of the instrument's own, so that a branch can be deleted, cut from the gradient or looked at. It
compiles as many block bodies as there are kinds of blocks, at any depth.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from resnet_jax.models import ResNet, trainable
from resnet_jax.models.shortcuts import NoShortcut

Weights = dict[str, Any]
Step = Callable[[Any, jax.Array, Any], tuple[jax.Array, Any]]


@dataclass(frozen=True)
class Group:
    """Neighbouring blocks of one graph, whose arrays are stacked.

    Attributes:
        graph: of one of them.
        start, count: place in the chain.
        survival: float of each, of its stochastic depth; 1 where there is none.
    """

    graph: Any
    start: int
    count: int
    survival: tuple[float, ...]


@dataclass(frozen=True)
class Chain:
    """The static part of a network.

    Attributes:
        outer: graph of the network without its blocks.
        groups: the blocks; the first of a stage is a group of its own.
        names: of every block, e.g. `stage1/block1`.
        changes_shape: of every block, whether its output has another shape than its input.
        plain: the blocks have no shortcut.
    """

    outer: Any
    groups: tuple[Group, ...]
    names: tuple[str, ...]
    changes_shape: tuple[bool, ...]
    plain: bool

    @property
    def num_blocks(self) -> int:
        """Blocks of all stages."""
        return len(self.names)

    def stem(self, weights: Weights, images: jax.Array) -> jax.Array:
        """From float[batch, height, width, channels] to the input of the first block."""
        return nnx.merge(self.outer, weights["outer"]).stem(images)

    def head(self, weights: Weights, x: jax.Array) -> jax.Array:
        """From the output of the last block to the logits, float32[batch, classes]."""
        return nnx.merge(self.outer, weights["outer"]).classify(x)

    def blocks(
        self, weights: Weights, x: jax.Array, step: Step | None = None, extras: Any = None
    ) -> tuple[jax.Array, list[Any]]:
        """Run all blocks.

        Args:
            weights: of `split_chain`.
            x: output of the stem.
            step: called as `step(block, x, extra)`, returns the block's output and whatever is to be
                kept; None: the block alone. `block` is a `models.Residual`: `block(x)`, or
                `block.join(*block.split(x))`.
            extras: pytree with a leading axis over the blocks, of which each step gets its slice; or
                a list with such a tree for each group.

        Returns:
            The output of the last block, and what was kept: a tree for each group, with a leading axis
            over its blocks (`over_blocks` puts equal shapes together).
        """
        step = step or _run_block
        kept = []
        for group, arrays, extra in zip(
            self.groups, weights["groups"], self._by_group(extras), strict=True
        ):
            x, out = _run_group(group, arrays, x, step, extra)
            kept.append(out)
        return x, kept

    def logits(
        self, weights: Weights, images: jax.Array, step: Step | None = None, extras: Any = None
    ) -> jax.Array:
        """Stem, blocks and head."""
        x, _ = self.blocks(weights, self.stem(weights, images), step, extras)
        return self.head(weights, x)

    def _by_group(self, extras: Any) -> list[Any]:
        if isinstance(extras, list):
            return extras
        return [
            jax.tree.map(lambda a, g=group: a[g.start : g.start + g.count], extras)
            for group in self.groups
        ]


def _run_block(block: Any, x: jax.Array, extra: Any) -> tuple[jax.Array, None]:
    del extra
    return block(x), None


def _run_group(
    group: Group, arrays: Any, x: jax.Array, step: Step, extras: Any
) -> tuple[jax.Array, Any]:
    def body(x: jax.Array, own: tuple[Any, Any, jax.Array]) -> tuple[jax.Array, Any]:
        arrays, extra, survival = own
        block: Any = nnx.merge(group.graph, arrays)
        if block.drop_path is not None:
            block.drop_path.set_survival(survival)
        return step(block, x, extra)

    own = arrays, extras, jnp.asarray(group.survival, jnp.float32)
    if group.count > 1:
        return lax.scan(body, x, own)
    x, out = body(x, jax.tree.map(lambda a: a[0], own))
    return x, jax.tree.map(lambda a: a[None], out)


def over_blocks(kept: Sequence[Any]) -> Any:
    """What `Chain.blocks` kept, with one leading axis over all blocks; shapes must be equal."""
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *kept)


def last_of_stages(chain: Chain, kept: Sequence[Any]) -> dict[str, Any]:
    """Of the last block of each stage, `stage1` and so on, what `Chain.blocks` kept."""
    return {
        chain.names[group.start].partition("/")[0]: jax.tree.map(lambda a: a[-1], tree)
        for group, tree in zip(chain.groups, kept, strict=True)
    }


def split_chain(model: ResNet) -> tuple[Chain, Weights]:
    """A network as a chain and its weights.

    Args:
        model: in the mode that the instrument needs: `models.evaluation_view` or
            `batch_statistics_view`. New running statistics are never kept.

    Returns:
        The static chain, and a pytree of arrays `{"outer", "groups"}`; `groups` is a list of nested
        dicts with a leading axis over the blocks of the group.
    """
    groups: list[Group] = []
    stacked: list[Any] = []
    names: list[str] = []
    changes_shape: list[bool] = []

    def add(block: Any, arrays: Any, survival: tuple[float, ...]) -> None:
        groups.append(Group(_graph(block), len(names), len(survival), survival))
        stacked.append(arrays)
        first = len(names) - start
        names.extend(f"stage{number}/block{first + i + 1}" for i in range(len(survival)))
        changes_shape.extend([_changes_shape(block)] * len(survival))

    outer = nnx.merge(*nnx.split(model))
    for number, stage in enumerate(model.stages(), 1):
        start = len(names)
        delattr(outer, f"stage{number}")
        first, *others = stage.blocks
        add(first, jax.tree.map(lambda a: a[None], _arrays(first)), stage.survival[:1])
        if stage.scanned is not None:
            add(stage.scanned, _arrays(stage.scanned), stage.survival[1:])
        else:
            for _, equal in itertools.groupby(others, _trained):
                blocks, place = list(equal), len(names) - start
                arrays = jax.tree.map(lambda *a: jnp.stack(a), *map(_arrays, blocks))
                add(blocks[0], arrays, stage.survival[place : place + len(blocks)])
    plain = isinstance(model.stages()[0].blocks[0].shortcut, NoShortcut)
    chain = Chain(nnx.graphdef(outer), tuple(groups), tuple(names), tuple(changes_shape), plain)
    return chain, {"outer": _arrays(outer), "groups": stacked}


def batch_statistics_view(model: ResNet) -> ResNet:
    """Batch norms use the statistics of the batch; nothing is drawn. Shares its arrays with `model`."""
    return nnx.view(model, use_running_average=False, deterministic=True, raise_if_not_found=False)


def _graph(block: Any) -> Any:
    """The graph of a block; its survival probability is in `Group.survival`, so that it is one for all."""
    copy = nnx.merge(*nnx.split(block))
    if copy.drop_path is not None:
        copy.drop_path.set_survival(1.0)
    return nnx.graphdef(copy)


def _arrays(module: nnx.Module) -> Any:
    return nnx.to_pure_dict(nnx.state(module))


def _trained(module: nnx.Module) -> list[Any]:
    """Names of the parameters that train. A frozen part has none, and its norms take other statistics."""
    return [path for path, _ in nnx.to_flat_state(nnx.state(module, trainable))]


def _changes_shape(block: Any) -> bool:
    branch = block.branch
    strides = any(stride > 1 for _, stride in branch.windows())
    return strides or branch.conv1.in_features != block.out_channels
