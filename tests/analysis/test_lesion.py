"""Lesions against networks that are built by hand without the block, or with blocks exchanged."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from resnet_jax import cli, models
from resnet_jax.analysis import lesion
from resnet_jax.analysis.chain import split_chain
from resnet_jax.analysis.lesion import Lesions, error_after, lesion_logits

IMAGES = jax.random.normal(jax.random.key(1), (6, 8, 8, 3))
SIZES = (3, 3)


def make_net(sizes=SIZES, **options):
    """A small net of random arrays."""
    options = {"shortcut": "A", "scan_blocks": False} | options

    def build():
        return models.ResNet(
            num_classes=5,
            stage_sizes=sizes,
            widths=(4, 8),
            stem="cifar",
            **options,
            rngs=nnx.Rngs(0),
        )

    graph, state = nnx.split(nnx.eval_shape(build))
    rng = np.random.default_rng(0)
    # Positive, so that they may be variances, and of either sign as kernels.
    arrays = jax.tree.map(
        lambda a: jnp.asarray(rng.uniform(-0.4 if a.ndim > 1 else 0.3, 0.5, a.shape), a.dtype),
        state,
    )
    return models.evaluation_view(nnx.merge(graph, arrays))


def after(model, keep=None, order=None):
    """Logits after a lesion."""
    chain, weights = split_chain(model)
    places = np.arange(chain.num_blocks)
    keep = np.ones(len(places), bool) if keep is None else keep
    order = places if order is None else order
    first = Lesions(keep[None], order[None]).first_change[0]

    @jax.jit
    def logits(weights, keep, order, first):
        start = chain.stem(weights, IMAGES)
        _, outputs = chain.blocks(weights, start, lambda block, x, _: (block(x),) * 2)
        return lesion_logits(chain, weights, start, outputs, keep, order, first)

    return logits(weights, keep, order, first)


def without(blocks, deleted):
    keep = np.ones(blocks, bool)
    keep[deleted] = False
    return keep


def assert_same(ours, theirs):
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
    model = make_net(**options)
    chain, weights = split_chain(model)
    start = chain.stem(weights, IMAGES)
    _, outputs = chain.blocks(weights, start, lambda block, x, _: (block(x),) * 2)
    keep, order = np.ones(6, bool), np.arange(6)
    # From 0 on every block is computed; from 6 on none.
    logits = jax.jit(
        lambda first: lesion_logits(chain, weights, start, outputs, keep, order, first)
    )
    assert_same(logits(0), whole(model))
    assert_same(logits(6), whole(model))


def with_blocks(model, stage, places):
    """The net with these blocks of a stage, in this order."""
    model = nnx.clone(model)
    part = getattr(model, f"stage{stage}")
    part.blocks = nnx.List([part.blocks[place] for place in places])
    part.survival = tuple(part.survival[place] for place in places)
    return model


@pytest.mark.parametrize("shortcut", ["A", "none"])
def test_deletion_is_a_shallower_net_of_the_other_blocks(shortcut):
    model = make_net(shortcut=shortcut)
    assert_same(after(model, without(6, [2])), whole(with_blocks(model, 1, (0, 1))))
    assert_same(after(model, without(6, [4])), whole(with_blocks(model, 2, (0, 2))))


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_deletion_where_shape_changes_leaves_the_shortcut(shortcut):
    model = make_net(shortcut=shortcut)
    ours = after(model, without(6, [1, 3]))
    for block in (model.stage1.blocks[1], model.stage2.blocks[0]):
        last = block.branch.norm2
        last.scale.set_value(jnp.zeros(last.scale.shape))
        last.bias.set_value(jnp.zeros(last.bias.shape))
    assert_same(ours, whole(model))


@pytest.mark.parametrize("options", [{}, {"survival_probability": 0.3}])
def test_a_swap_is_a_net_with_exchanged_blocks(options):
    model = make_net(**options)
    ours = after(model, order=np.array([0, 2, 1, 3, 4, 5]))
    assert np.abs(ours - whole(model)).max() > 1e-3
    assert_same(ours, whole(with_blocks(model, 1, (0, 2, 1))))


def test_the_first_block_is_exchanged_too_where_it_is_like_the_others():
    model = make_net()
    ours = after(model, order=np.array([1, 0, 2, 3, 5, 4]))
    assert_same(ours, whole(with_blocks(with_blocks(model, 1, (1, 0, 2)), 2, (0, 2, 1))))


def test_errors_are_counted_over_all_examples():
    model = make_net()
    images = np.asarray(jax.random.normal(jax.random.key(3), (130, 8, 8, 3)))
    labels = np.arange(130, dtype=np.int32) % 5
    chain, _ = split_chain(model)
    errors = error_after(model, images, labels, lesion.delete_one(chain))
    assert errors.shape == (6,)
    answers = jax.jit(lambda m, x: m(x))(with_blocks(model, 2, (0, 1)), images).argmax(-1)
    assert errors[5] == np.mean(answers != labels)


def test_random_deletions_and_shuffles_are_what_they_say():
    chain, _ = split_chain(make_net((4, 5)))
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
    assert len(lesion.shuffle(split_chain(make_net((1, 1)))[0], 30, seed=0)[1]) == 0


def test_a_plain_net_keeps_the_blocks_that_change_shape():
    chain, _ = split_chain(make_net(shortcut="none"))
    assert lesion.deletable(chain).tolist() == [True] * 3 + [False] + [True] * 2
    assert lesion.delete_one(chain).keep.shape == (5, 6)
    assert lesion.delete_random(chain, 20, 2, seed=0)[0].keep[:, 3].all()


def test_command(small_run, small_plain_run, tmp_path, capsys):
    words = [
        "analyze", "lesion", f"--workdir={small_run}", f"--workdir={small_plain_run}",
        f"--out={tmp_path}", "--examples=30", "--max_deleted=2", "--num_draws=3",
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
