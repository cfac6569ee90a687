"""Norms along chains of layers against closed forms."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax import cli
from resnet_jax.analysis.layer_chain import expected_norms, norms_along_chain

SCALES = (0.7, 1.0, 1.4)


def test_expected_norms_of_linear_and_relu_layers():
    layers = np.arange(11)
    for scale in SCALES:
        up, down = expected_norms(scale, "linear", 10)
        np.testing.assert_allclose(up, scale**layers, rtol=1e-9)
        np.testing.assert_allclose(down, scale ** layers[::-1], rtol=1e-9)
        up, down = expected_norms(scale, "relu", 10)
        np.testing.assert_allclose(up, (scale / np.sqrt(2)) ** layers, rtol=1e-6)
        np.testing.assert_allclose(down, (scale / np.sqrt(2)) ** layers[::-1], rtol=1e-6)
        up, down = expected_norms(scale, "linear", 10, skip=1.0)
        np.testing.assert_allclose(up, np.sqrt(1 + scale**2) ** layers, rtol=1e-9)
        np.testing.assert_allclose(down, np.sqrt(1 + scale**2) ** layers[::-1], rtol=1e-9)


@pytest.mark.parametrize("activation", ["linear", "relu", "tanh"])
def test_wide_chains_are_as_expected(activation):
    found = norms_along_chain((0.8, 1.4), activation, depth=4, width=48, draws=32)
    for name in ("activation_norm", "gradient_norm"):
        np.testing.assert_allclose(found[name], found[f"expected_{name}"], rtol=0.15)
    np.testing.assert_allclose(found["activation_norm"][..., 0], 1, rtol=1e-6)
    np.testing.assert_allclose(found["gradient_norm"][..., -1], 1, rtol=1e-6)


def test_linear_chains_scale_exactly_beyond_the_squares_of_float32():
    """One draw at two scales differs by nothing but the powers of their ratio."""
    found = norms_along_chain((0.2, 3.0), "linear", depth=40, width=16, draws=1)
    ratio = (0.2 / 3.0) ** np.arange(41)
    up, down = found["activation_norm"][0], found["gradient_norm"][0]
    assert up[1].max() > 1e17
    assert up[0].min() < 1e-22
    np.testing.assert_allclose(up[0], up[1] * ratio, rtol=1e-3)
    np.testing.assert_allclose(down[0], down[1] * ratio[::-1], rtol=1e-3)


def test_command(tmp_path, capsys):
    command = ["analyze", "layer_chain", f"--out={tmp_path}", "--depth=4", "--width=8", "--json"]
    assert cli.main([*command, "--weight_scales", "0.5", "1", "--activation=tanh"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["weight scale 0.5"]["plain_gradient_factor"] < 1
    arrays = np.load(tmp_path / "layer_chain.npz")
    assert arrays["gradient_norm"].shape == (3, 2, 5)
    assert (tmp_path / "layer_chain_norms.png").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--weight_scales", "0.5", "-1"], "--weight_scales"),
        (["--weight_scales", "nan"], "--weight_scales"),
        (["--depth=0"], "--depth"),
        (["--config.model.depth=20"], "needs no network"),
    ],
)
def test_refused(tmp_path, capsys, words, told):
    assert cli.main(["analyze", "layer_chain", f"--out={tmp_path / 'new'}", *words]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_gradient_norms_are_those_of_autodiff():
    """The taps against the gradient of an explicit product of the same matrices."""
    width, depth, scale = 6, 3, 0.9
    found = norms_along_chain((scale,), "tanh", depth, width, draws=1, seed=3)
    key = jax.random.split(jax.random.key(3), 1)[0]
    start, end, layers = jax.random.split(key, 3)
    h = jax.random.normal(start, (width,))
    h *= jnp.sqrt(width) / jnp.linalg.norm(h)
    direction = jax.random.normal(end, (width,))
    direction /= jnp.linalg.norm(direction)
    matrices = [
        scale / jnp.sqrt(width) * jax.random.normal(k, (width, width))
        for k in jax.random.split(layers, depth)
    ]

    def result(h):
        for matrix in matrices:
            h = matrix @ jnp.tanh(h)
        return direction @ h

    expected = jnp.linalg.norm(jax.grad(result)(h))
    np.testing.assert_allclose(found["gradient_norm"][0, 0, 0], expected, rtol=1e-5)
