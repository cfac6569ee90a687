"""Lesions against networks that are built by hand without the block, or with blocks exchanged."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from small_nets import random_net

from resnet_jax import cli
from resnet_jax.analysis import lesion
from resnet_jax.analysis.chain import split_chain
from resnet_jax.analysis.lesion import Lesions, error_after, lesion_logits

IMAGES = jax.random.normal(jax.random.key(1), (3, 8, 8, 3))


def after(model, keep=None, order=None, first=None):
    """Logits after a lesion; computed from block `first` on, the first that changes."""
    chain, weights = split_chain(model)
    places = np.arange(chain.num_blocks)
    keep = np.ones(len(places), bool) if keep is None else keep
    order = places if order is None else order
    if first is None:
        first = Lesions(keep[None], order[None]).first_change

    @jax.jit
    def logits(weights, first):
        start = chain.stem(weights, IMAGES)
        _, outputs = chain.blocks(weights, start, lambda block, x, _: (block(x),) * 2)
        return jax.lax.map(
            lambda f: lesion_logits(chain, weights, start, outputs, keep, order, f), first
        )

    return logits(weights, first)[0] if len(first) == 1 else logits(weights, first)


def without(blocks, deleted):
    keep = np.ones(blocks, bool)
    keep[deleted] = False
    return keep


def assert_same(ours, theirs):
    assert np.isfinite(ours).all()
    np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-5)


def whole(model):
    return jax.jit(lambda m: m(IMAGES))(model)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"shortcut": "none"},
        {"shortcut": "exclusive_gating", "gate_bias": 0.0},
        {"survival_probability": 0.5, "activation_order": "full_preactivation"},
        {"branch_init": "fixup", "norm": "none"},
        {"block": "bottleneck", "shortcut": "C", "scan_blocks": True},
    ],
    ids=["A", "plain", "gated", "stochastic depth", "fixup", "bottleneck"],
)
def test_nothing_done_is_the_network(options):
    model = random_net(**options)
    every, none = after(model, first=np.array([0, 6]))
    assert_same(every, whole(model))
    assert_same(none, whole(model))


def with_blocks(model, stage, places):
    """The net with these blocks of a stage, in this order."""
    model = nnx.clone(model)
    part = getattr(model, f"stage{stage}")
    part.blocks = nnx.List([part.blocks[place] for place in places])
    part.survival = tuple(part.survival[place] for place in places)
    return model


@pytest.mark.parametrize("shortcut", ["A", "none"])
def test_deletion_is_a_shallower_net_of_the_other_blocks(shortcut):
    model = random_net(shortcut=shortcut)
    assert_same(after(model, without(6, [2])), whole(with_blocks(model, 1, (0, 1))))
    assert_same(after(model, without(6, [4])), whole(with_blocks(model, 2, (0, 2))))


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_deletion_where_shape_changes_leaves_the_shortcut(shortcut):
    model = random_net(shortcut=shortcut)
    ours = after(model, without(6, [1, 3]))
    for block in (model.stage1.blocks[1], model.stage2.blocks[0]):
        last = block.branch.norm2
        last.scale.set_value(jnp.zeros(last.scale.shape))
        last.bias.set_value(jnp.zeros(last.bias.shape))
    assert_same(ours, whole(model))


def test_a_swap_is_a_net_with_exchanged_blocks():
    model = random_net()
    ours = after(model, order=np.array([0, 2, 1, 3, 4, 5]))
    assert np.abs(ours - whole(model)).max() > 1e-3
    assert_same(ours, whole(with_blocks(model, 1, (0, 2, 1))))


@pytest.mark.parametrize("options", [{}, {"survival_probability": 0.3}])
def test_the_first_block_is_exchanged_too_where_it_is_like_the_others(options):
    model = random_net(**options)
    ours = after(model, order=np.array([1, 0, 2, 3, 5, 4]))
    assert_same(ours, whole(with_blocks(with_blocks(model, 1, (1, 0, 2)), 2, (0, 2, 1))))


def test_errors_are_counted_over_all_examples():
    model = random_net()
    images = np.asarray(jax.random.normal(jax.random.key(3), (70, 8, 8, 3)))
    labels = np.arange(70, dtype=np.int32) % 5
    chain, _ = split_chain(model)
    errors = error_after(model, images, labels, lesion.delete_one(chain))
    assert errors.shape == (6,)
    answers = jax.jit(lambda m, x: m(x))(with_blocks(model, 2, (0, 1)), images).argmax(-1)
    assert errors[5] == np.mean(answers != labels)


def test_random_deletions_and_shuffles_are_what_they_say():
    chain, _ = split_chain(random_net(stage_sizes=(4, 5)))
    lesions, numbers = lesion.delete_random(chain, 3, 4, seed=0)
    np.testing.assert_array_equal((~lesions.keep).sum(1), numbers)
    np.testing.assert_array_equal(numbers, np.repeat([1, 2, 3], 4))
    shuffles, tau = lesion.shuffle(chain, 30, seed=0)
    assert (np.sort(shuffles.order, 1) == np.arange(9)).all()
    assert (shuffles.order[:, 4] == 4).all()
    assert (shuffles.order[:, :4] < 4).all()
    discordant = [
        sum(row[i] > row[j] for i in range(9) for j in range(i + 1, 9)) for row in shuffles.order
    ]
    np.testing.assert_allclose(tau, 1 - 2 * np.array(discordant) / 36)
    assert len(lesion.shuffle(split_chain(random_net(stage_sizes=(1, 1)))[0], 30, seed=0)[1]) == 0


def test_a_plain_net_keeps_the_blocks_that_change_shape():
    chain, _ = split_chain(random_net(shortcut="none"))
    assert lesion.deletable(chain).tolist() == [True] * 3 + [False] + [True] * 2
    assert lesion.delete_one(chain).keep.shape == (5, 6)
    assert lesion.delete_random(chain, 20, 2, seed=0)[0].keep[:, 3].all()


def test_command(small_run, small_plain_run, tmp_path, capsys):
    words = [
        "analyze", "lesion", f"--workdir={small_run}", f"--workdir={small_plain_run}",
        f"--out={tmp_path}", "--examples=10", "--max_deleted=2", "--num_draws=3",
        "--num_shuffles=5", "--json",
    ]  # fmt: skip
    assert cli.main(words) == 0
    assert 0 < json.loads(capsys.readouterr().out)["residual"]["error"] <= 1
    facts = json.loads((tmp_path / "lesion.json").read_text())
    assert set(facts["figures"]) == {"deletion", "random_deletion", "shuffle"}
    with np.load(tmp_path / "lesion.npz") as arrays:
        assert np.isfinite(arrays["residual/deletion_error"]).all()
        np.testing.assert_array_equal(
            np.isnan(arrays["plain/deletion_error"]), arrays["plain/changes_shape"]
        )
        assert arrays["residual/random_deletion_error"].shape == (2, 3)
        assert (
            arrays["residual/shuffle_error"].shape == arrays["residual/kendall_tau"].shape == (5,)
        )
        assert float(arrays["chance"]) == 0.9
    assert cli.main([*words, "--num_draws=0"]) == 2
