"""The chain of blocks computes what the network computes, whatever its family and layout."""

import jax
import numpy as np
import pytest
from flax import nnx
from small_nets import random_net

from resnet_jax import models
from resnet_jax.analysis.chain import batch_statistics_view, over_blocks, split_chain

NETS = {
    "residual": {},
    "plain": {"shortcut": "none"},
    "scanned": {"scan_blocks": True},
    "bottleneck": {"block": "bottleneck", "activation_order": "full_preactivation"},
    "gated": {"shortcut": "exclusive_gating"},
    "fixup": {"branch_init": "fixup", "norm": "none"},
    "stochastic depth": {"survival_probability": 0.5},
    "squeeze": {"squeeze_reduction": 4, "shortcut": "C"},
    "imagenet": {"stem": "imagenet", "shortcut": "B"},
}


def logits_of(model, images):
    """Of the model as it is and as a chain."""
    chain, weights = split_chain(model)
    ours = jax.jit(lambda weights, x: chain.logits(weights, x))(weights, images)
    graph, state = nnx.split(model)
    theirs = jax.jit(lambda state, x: nnx.merge(graph, state)(x))(state, images)
    return ours, theirs


@pytest.mark.parametrize("options", NETS.values(), ids=NETS)
def test_logits_are_those_of_the_network(options):
    images = jax.random.normal(jax.random.key(1), (3, 16, 16, 3))
    ours, theirs = logits_of(random_net(**options), images)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_batch_statistics_are_used_and_not_kept():
    model = random_net()
    images = jax.random.normal(jax.random.key(1), (4, 8, 8, 3))
    before = jax.tree.map(np.array, nnx.to_pure_dict(nnx.state(model)))
    ours, theirs = logits_of(batch_statistics_view(model), images)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, before, nnx.to_pure_dict(nnx.state(model)))
    assert not np.allclose(ours, logits_of(model, images)[0])


def test_a_frozen_block_alone_keeps_its_running_statistics():
    model = random_net(stage_sizes=(4,), widths=(4,))
    models.freeze(model, ["stage1.blocks.1"])
    images = jax.random.normal(jax.random.key(1), (4, 8, 8, 3))
    chain, weights = split_chain(batch_statistics_view(model))
    ours, theirs = chain.logits(weights, images), models.training_view(model)(images)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_steps_get_their_slice_and_what_they_keep_is_in_order():
    chain, weights = split_chain(random_net())

    def step(block, x, extra):
        skip, branch = block.split(x)
        return block.join(skip, extra * branch), extra

    keep = np.arange(chain.num_blocks) / 10.0
    images = np.ones((1, 8, 8, 3), np.float32)
    _, kept = jax.jit(lambda w, x, k: chain.blocks(w, chain.stem(w, x), step, k))(
        weights, images, keep
    )
    np.testing.assert_allclose(over_blocks(kept), keep, rtol=1e-6)
    names = [f"stage{stage}/block{block}" for stage in (1, 2) for block in (1, 2, 3)]
    assert list(chain.names) == names
    assert chain.changes_shape == tuple(name == "stage2/block1" for name in names)
