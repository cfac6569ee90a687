"""Paths against the binomial distribution, published shares and the gradient of the network."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
from small_nets import random_net

from resnet_jax import cli
from resnet_jax.analysis import paths
from resnet_jax.analysis.chain import split_chain

SMALL = {"stage_sizes": (2, 2), "widths": (3, 4), "convolution": "loop_safe"}


@pytest.mark.parametrize("blocks", [1, 9, 54, 600])
def test_lengths_are_binomial(blocks):
    truth = scipy.stats.binom.pmf(np.arange(blocks + 1), blocks, 0.5)
    np.testing.assert_allclose(paths.path_share(blocks), truth, rtol=1e-9)


def test_shares_that_veit_et_al_report_of_54_blocks():
    share = paths.path_share(54)
    assert share[19:36].sum() == pytest.approx(0.980, abs=5e-4)
    assert share[5:18].sum() == pytest.approx(0.004537, abs=5e-7)


def test_paths_have_the_length_that_they_say():
    sampled = paths.sample_paths(7, 30, seed=0)
    assert (sampled.sum(-1) == np.arange(8)[:, None]).all()
    assert len(np.unique(sampled[3], axis=0)) > 15


def test_middle_range():
    assert paths.middle_range(np.array([0.02, 0.08, 0.5, 0.36, 0.04])) == (1, 3)
    assert paths.middle_range(np.array([0.0, 1.0, 0.0])) == (1, 1)
    assert paths.middle_range(np.array([0.25, 0.25, 0.25, 0.25]), middle=0.5) == (1, 2)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"shortcut": "exclusive_gating"},
        {"shortcut": "C", "activation_order": "full_preactivation", "survival_probability": 0.5},
        {"scan_blocks": True, "block": "bottleneck", "shortcut": "B"},
    ],
    ids=["A", "gated", "C", "bottleneck"],
)
def test_gradients_through_all_paths_sum_to_that_of_the_network(x64, options):
    model = random_net(jnp.float64, **SMALL, **options)
    images = jax.random.normal(jax.random.key(1), (3, 6, 6, 3), jnp.float64)
    labels = jnp.array([0, 4, 2])
    chain, weights = split_chain(model)
    every = jnp.array(list(itertools.product([0.0, 1.0], repeat=4)))

    def loss(images):
        return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).sum()

    truth = jax.jit(jax.grad(loss))(images)
    one = lambda path: paths.path_gradient(chain, weights, images, labels, path)  # noqa: E731
    parts = jax.jit(jax.vmap(one))(every)
    np.testing.assert_allclose(parts.sum(0), truth, rtol=1e-9, atol=1e-9 * np.abs(truth).max())
    # No path is empty, none is the whole.
    assert (np.abs(parts).max((1, 2, 3, 4)) > 0).all()


def test_norms_are_means_over_all_examples():
    model = random_net(**SMALL)
    images = np.asarray(jax.random.normal(jax.random.key(1), (66, 6, 6, 3)))
    labels = np.arange(66, dtype=np.int32) % 5
    sampled = np.array([[1, 0, 1, 0], [0, 0, 0, 0]], bool)
    chain, weights = split_chain(model)
    ours = paths.gradient_norms(model, images, labels, sampled)
    gradient = jax.jit(lambda p: paths.path_gradient(chain, weights, images, labels, p))
    for path, norm in zip(sampled, ours, strict=True):
        truth = np.sqrt(np.square(gradient(path.astype(np.float32))).sum((1, 2, 3))).mean()
        assert norm == pytest.approx(truth, rel=1e-4)


def test_command(small_run, tmp_path, capsys):
    words = ["analyze", "paths", f"--workdir={small_run}", f"--out={tmp_path}", "--examples=10"]
    assert cli.main([*words, "--num_paths=3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["residual"]["blocks"] == 6
    with np.load(tmp_path / "paths.npz") as arrays:
        assert arrays["residual/gradient_norm"].shape == (7, 3)
        assert arrays["residual/gradient_share"].sum() == pytest.approx(1)
    assert (tmp_path / "paths_lengths.png").exists()


def test_a_plain_net_is_refused(small_plain_run, tmp_path, capsys):
    words = ["analyze", "paths", f"--workdir={small_plain_run}", f"--out={tmp_path}"]
    assert cli.main(words) == 2
    assert "one path only" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
