"""The chain of blocks computes what the network computes, whatever its family and layout."""

import jax
import jax.numpy as jnp
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
    "bottleneck": {"depth": 29, "block": "bottleneck", "activation_order": "full_preactivation"},
    "gated": {"shortcut": "exclusive_gating"},
    "fixup": {"branch_init": "fixup", "norm": "none"},
    "stochastic depth": {"survival_probability": 0.5},
    "squeeze": {"squeeze_reduction": 4, "shortcut": "C"},
    "imagenet": {"family": "imagenet", "depth": 18, "num_classes": 7},
}


def make_net(**options):
    options = {"family": "cifar", "depth": 20} | options
    model = models.initialise(lambda rngs: models.resnet(**options, rngs=rngs))
    for path, norm in nnx.iter_modules(model):
        if isinstance(norm, models.BatchNorm):
            key = jax.random.key(hash(str(path)) % 1000)
            norm.mean.set_value(jax.random.normal(key, norm.mean.shape) / 10)
    return models.evaluation_view(model)


@pytest.mark.parametrize("options", NETS.values(), ids=NETS)
def test_logits_are_those_of_the_network(options):
    model = make_net(**options)
    images = jax.random.normal(jax.random.key(1), (3, 32, 32, 3))
    chain, weights = split_chain(model)
    ours = jax.jit(lambda w, x: chain.logits(w, x))(weights, images)
    theirs = jax.jit(lambda m, x: m(x))(model, images)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    assert chain.num_blocks == sum(
        len(chain_stage(model, n)) for n in range(1, model.num_stages + 1)
    )


def chain_stage(model, number):
    return getattr(model, f"stage{number}").survival


def test_batch_statistics_are_used_and_not_kept():
    model = make_net()
    images = jax.random.normal(jax.random.key(1), (4, 16, 16, 3))
    view = batch_statistics_view(model)
    chain, weights = split_chain(view)
    ours = chain.logits(weights, images)
    again = chain.logits(weights, images)
    np.testing.assert_array_equal(ours, again)
    theirs = models.training_view(model)(images)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_frozen_block_alone_keeps_its_running_statistics():
    model = random_net(stage_sizes=(4,), widths=(4,))
    models.freeze(model, ["stage1.blocks.1"])
    images = jax.random.normal(jax.random.key(1), (4, 8, 8, 3))
    chain, weights = split_chain(batch_statistics_view(model))
    ours, theirs = chain.logits(weights, images), models.training_view(model)(images)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_steps_get_their_slice_and_what_they_keep_is_in_order():
    model = make_net(depth=26)
    chain, weights = split_chain(model)

    def step(block, x, extra):
        skip, branch = block.split(x)
        return block.join(skip, extra * branch), extra

    keep = jnp.arange(chain.num_blocks) / 10.0
    images = jnp.ones((1, 16, 16, 3))
    _, kept = chain.blocks(weights, chain.stem(weights, images), step, keep)
    np.testing.assert_allclose(over_blocks(kept), keep)
    assert chain.names[4] == "stage2/block1"
    assert [name for name, c in zip(chain.names, chain.changes_shape, strict=True) if c] == [
        "stage2/block1",
        "stage3/block1",
    ]
