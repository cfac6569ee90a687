"""Curvature of a small net against its dense Hessian and the gradients of its examples."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from resnet_jax import cli, models
from resnet_jax.analysis.gradient_noise import gradient_noise, noise_scale
from resnet_jax.analysis.hessian import eigenvalues, loss_of_vector, trace_samples

EXAMPLES = 12


@pytest.fixture(scope="module")
def small():
    """A net of 197 parameters in double precision, examples, its Hessian, and gradients of examples."""
    with jax.enable_x64(True):
        model = models.initialise(
            lambda rngs: models.ResNet(
                num_classes=3,
                stage_sizes=(1, 1),
                widths=(2, 2),
                stem="cifar",
                shortcut="A",
                convolution="loop_safe",
                dtype=jnp.float64,
                rngs=rngs,
            )
        )
        nnx.update(model, jax.tree.map(lambda a: a.astype(jnp.float64), nnx.state(model)))
        model = models.evaluation_view(model)
        rng = np.random.default_rng(1)
        images = rng.normal(size=(EXAMPLES, 4, 4, 3))
        labels = rng.integers(3, size=EXAMPLES)
        graph, params, rest = nnx.split(model, nnx.Param, ...)
        vector, unravel = jax.flatten_util.ravel_pytree(nnx.to_pure_dict(params))
        rest = nnx.to_pure_dict(rest)

        def losses(vector):
            logits = nnx.merge(graph, unravel(vector), rest)(images)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels)

        # Rows of the Hessian by reverse mode, as the convolution has no other.
        gradient = jax.grad(lambda v: losses(v).mean())
        hessian = jax.jit(jax.jacrev(gradient))(vector)
        jacobian = jax.jit(jax.jacrev(losses))(vector)
        yield model, images, labels, np.asarray(hessian), np.asarray(jacobian)


def test_all_eigenvalues(small):
    """The Hessian has many eigenvalues of 0, of which Lanczos' method finds one."""
    model, images, labels, hessian, _ = small
    found = eigenvalues(model, images, labels, steps=len(hessian))
    expected = np.linalg.eigvalsh(hessian)[::-1]
    expected = expected[np.abs(expected) > 1e-8]
    values = found["eigenvalue"]
    np.testing.assert_allclose(values[np.abs(values) > 1e-8], expected, atol=1e-9)


def test_few_steps_find_the_ends_within_their_residuals(small):
    model, images, labels, hessian, _ = small
    found = eigenvalues(model, images, labels, steps=25, seed=1)
    expected = np.linalg.eigvalsh(hessian)[::-1]
    np.testing.assert_allclose(found["eigenvalue"][:3], expected[:3], rtol=1e-6)
    np.testing.assert_allclose(found["eigenvalue"][-1], expected[-1], rtol=1e-6)
    nearest = np.abs(found["eigenvalue"][:, None] - expected).min(1)
    assert (nearest <= found["residual"] + 1e-9).all()


def test_trace(small):
    model, images, labels, hessian, _ = small
    samples = trace_samples(model, images, labels, probes=64)
    assert abs(samples.mean() - np.trace(hessian)) < 4 * samples.std(ddof=1) / 8
    # Each is a quadratic form with signs, whose variance is known (Hutchinson 1990).
    off_diagonal = hessian - np.diag(np.diag(hessian))
    deviation = np.sqrt(2 * np.square(off_diagonal).sum())
    assert 0.6 < samples.std() / deviation < 1.5


def test_noise_scale(small):
    model, images, labels, _, jacobian = small
    found = gradient_noise(model, images, labels)
    covariance = np.cov(jacobian.T)
    trace, mean = np.trace(covariance), jacobian.mean(0)
    signal = mean @ mean - trace / EXAMPLES
    np.testing.assert_allclose(found["gradient_covariance_trace"], trace, rtol=1e-9)
    np.testing.assert_allclose(found["gradient_square"], signal, rtol=1e-9)
    np.testing.assert_allclose(found["noise_scale"], trace / signal, rtol=1e-9)


@pytest.mark.parametrize("size", [1, 8])
def test_noise_scale_and_its_error_for_a_known_distribution(size):
    rng = np.random.default_rng(0)
    scales, errors, signals = [], [], []
    for _ in range(200):
        # Gradients of mean (1, …) and variance 4 a coordinate: the scale is 4.
        groups = 1 + 2 / np.sqrt(size) * rng.normal(size=(100, 50))
        mean = groups.mean(0)
        deviations = groups - mean
        found = noise_scale((deviations**2).sum(1), deviations @ mean, mean @ mean, size)
        scales.append(found["noise_scale"])
        errors.append(found["noise_scale_error"])
        signals.append((found["gradient_square"], found["gradient_square_error"]))
    assert np.mean(scales) == pytest.approx(4, rel=0.02)
    assert np.mean(errors) == pytest.approx(np.std(scales), rel=0.15)
    signal, signal_error = np.transpose(signals)
    assert signal.mean() == pytest.approx(50, rel=0.02)
    assert signal_error.mean() == pytest.approx(signal.std(), rel=0.15)


def test_a_gradient_of_zero_has_no_noise_scale():
    found = noise_scale(np.ones(4), np.zeros(4), 0.0, 1)
    assert found["noise_scale"] == np.inf
    assert found["gradient_square"] < 0


def test_filled_batches_count_nothing(small):
    model, images, labels, _, jacobian = small
    loss, vector, rest = loss_of_vector(model)
    padded = labels.copy()
    padded[5:] = -1
    gradient = jax.jit(jax.grad(loss))(vector, rest, (images, padded))
    np.testing.assert_allclose(gradient, jacobian[:5].sum(0), atol=1e-10)


def test_command(tmp_path, capsys):
    command = ["analyze", "curvature", "--config=configs/digits.py", f"--out={tmp_path}", "--json"]
    options = [
        "--examples=16",
        "--eigenvalues=2",
        "--lanczos_steps=4",
        "--probes=8",
        "--noise_examples=40",
    ]
    assert cli.main([*command, *options]) == 0
    results = json.loads(capsys.readouterr().out)["digits"]
    assert results["eigenvalues"][0] > results["eigenvalues"][1]
    arrays = np.load(tmp_path / "curvature.npz")
    assert arrays["digits/eigenvalue"].shape == (4,)
    assert arrays["digits/trace_sample"].mean() == pytest.approx(results["trace"])
    assert (tmp_path / "curvature_hessian.png").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--eigenvalues=0"], "--eigenvalues"),
        (["--lanczos_steps=4"], "--lanczos_steps"),
        (["--probes=1"], "--probes = 1: allowed: 2 or more"),
        (["--noise_examples=2"], "--noise_examples = 2: allowed: 3 or more"),
        (["--noise_examples=-5"], "--noise_examples = -5: allowed: from 1"),
    ],
)
def test_refused(tmp_path, small_run, capsys, words, told):
    command = ["analyze", "curvature", f"--workdir={small_run}", f"--out={tmp_path / 'new'}"]
    assert cli.main([*command, *words]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
