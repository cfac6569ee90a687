"""Activations and gradients against depth: finite differences, hand computations, known slopes."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from resnet_jax import cli, models
from resnet_jax.analysis.chain import batch_statistics_view
from resnet_jax.analysis.gradient_lines import POINTS, cosine_by_distance, gradient_correlation
from resnet_jax.analysis.gradients import (
    _described,
    against_depth,
    growth_per_block,
    whole_batches,
)
from resnet_jax.analysis.subject import Examples
from resnet_jax.analysis.taps import moments


def tiny_net(dtype=jnp.float32, **options):
    options = {"num_classes": 3, "stem": "cifar", "shortcut": "A", "dtype": dtype} | options
    options = {"stage_sizes": (1, 1), "widths": (2, 2)} | options
    model = models.initialise(lambda rngs: models.ResNet(**options, rngs=rngs))
    state = nnx.state(model)
    nnx.update(model, jax.tree.map(lambda a: a.astype(dtype), state))
    return batch_statistics_view(model)


def tiny_data(batches=1, batch=3, dtype=np.float32):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(batches, batch, 4, 4, 3)).astype(dtype)
    return images, rng.integers(3, size=(batches, batch))


def pure(module):
    """A module as a function, which keeps no statistics."""
    graph, state = nnx.split(module)
    arrays = nnx.to_pure_dict(state)
    return lambda x: nnx.merge(graph, arrays)(x)


def difference_norms(function, x, step=1e-5):
    """Norm of the gradient of a scalar with respect to each x[i], by central differences."""
    shifts = step * jnp.eye(x.size).reshape(-1, *x.shape)
    both = jax.jit(jax.vmap(lambda shift: function(x + shift) - function(x - shift)))(shifts)
    return np.linalg.norm((both / (2 * step)).reshape(len(x), -1), axis=1)


def test_gradient_norms_are_those_of_finite_differences(x64):
    model, (images, labels) = tiny_net(jnp.float64), tiny_data(dtype=np.float64)
    found = against_depth(model, images, labels)
    branch = model.stage1.blocks[0].branch
    first, second = pure(model.stage1.blocks[0]), pure(model.stage2.blocks[0])
    norm = pure(branch.norm2)

    def loss(logits):
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels[0]).sum()

    def first_output(stem, response):
        return nnx.relu(stem + response)

    stem = model.stem(images[0])
    middle = nnx.relu(branch.norm1(branch.conv1(stem)))
    response = norm(branch.conv2(middle))
    output = first_output(stem, response)
    expected = [
        difference_norms(lambda x: loss(model.classify(second(first(x)))), stem),
        difference_norms(lambda x: loss(model.classify(second(x))), output),
        difference_norms(lambda x: loss(model.classify(x)), second(output)),
    ]
    np.testing.assert_allclose(found["gradient_norm"], np.mean(expected, 1), rtol=1e-6)
    of_response = difference_norms(
        lambda r: loss(model.classify(second(first_output(stem, r)))), response
    )
    np.testing.assert_allclose(found["response_gradient_norm"][1], of_response.mean(), rtol=1e-6)

    kernel = branch.conv2.kernel.get_value()

    def loss_of_kernel(kernel):
        x = jax.lax.conv_general_dilated(
            middle, kernel[0], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return loss(model.classify(second(first_output(stem, norm(x))))) / 3

    of_kernel = difference_norms(loss_of_kernel, kernel[None])
    np.testing.assert_allclose(found["weight_gradient_norm"][1], of_kernel[0], rtol=1e-6)
    np.testing.assert_allclose(found["weight_norm"][1], np.linalg.norm(kernel), rtol=1e-12)
    np.testing.assert_allclose(
        found["relative_weight_gradient"][1], of_kernel[0] / np.linalg.norm(kernel), rtol=1e-6
    )
    logits = model.classify(second(output))
    np.testing.assert_allclose(found["loss"], loss(logits) / 3, rtol=1e-10)
    # He et al. 2015, Fig. 7, by hand: convolution, batch norm, no ReLU, no addition.
    np.testing.assert_allclose(found["response_std"][1], np.std(response), rtol=1e-10)
    np.testing.assert_allclose(found["activation_std"][1], np.std(output), rtol=1e-10)
    norms = np.linalg.norm(np.reshape(output, (3, -1)), axis=1)
    np.testing.assert_allclose(found["activation_norm"][1], norms.mean(), rtol=1e-10)


def test_shapes_and_means_over_batches():
    """Of bottlenecks without norms, whose equal blocks are one loop."""
    model = tiny_net(
        block="bottleneck",
        activation_order="full_preactivation",
        shortcut="B",
        norm="none",
        scan_blocks=True,
        stage_sizes=(3, 2),
    )
    images, labels = tiny_data(batches=2)
    found = against_depth(model, images, labels)
    assert found["gradient_norm"].shape == found["activation_std"].shape == (6,)
    assert found["response_std"].shape == found["weight_gradient_norm"].shape == (15,)
    assert all(np.isfinite(array).all() for array in found.values())
    logits = jax.jit(pure(model))(images.reshape(-1, *images.shape[2:]))
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels.ravel())
    np.testing.assert_allclose(found["loss"], losses.mean(), rtol=1e-5)


def test_growth_of_a_geometric_sequence():
    assert growth_per_block(3.0 * 1.5 ** -np.arange(10.0)) == pytest.approx(1.5)
    assert growth_per_block(np.zeros(3)) is None


def test_cosine_by_distance():
    angle = np.arange(POINTS) * 0.1
    line = np.stack([np.cos(angle), np.sin(angle)], 1)
    gradients = np.concatenate([line, 7 * line])
    np.testing.assert_allclose(cosine_by_distance(jnp.asarray(gradients)), np.cos(angle), atol=1e-6)


def test_cosines_leave_out_gradients_that_are_zero():
    gradients = jnp.ones((POINTS, 2)).at[0].set(0)
    np.testing.assert_allclose(cosine_by_distance(1e-30 * gradients)[:-1], 1, rtol=1e-6)
    assert np.isnan(cosine_by_distance(gradients)[-1])
    assert np.isnan(cosine_by_distance(0 * gradients)).all()


def test_norms_and_deviations_of_gradients_whose_squares_leave_float32():
    x = np.random.default_rng(0).normal(0.3, size=(3, 5, 2))
    for scale in (1e-30, 1.0, 1e25):
        measured = moments(jnp.asarray(scale * x, jnp.float32))
        found = _described("gradient", measured[None])
        truth = {
            "gradient_norm": np.linalg.norm(x.reshape(3, -1), axis=1).mean(),
            "gradient_std": x.std(),
        }
        for name, value in truth.items():
            np.testing.assert_allclose(found[name] / scale, value, rtol=1e-5)
    assert _described("gradient", jnp.zeros((1, 3, 3)))["gradient_std"] == 0


def test_deviations_of_activations_far_from_zero():
    # Within an example 1, and a little between the means of examples.
    x = np.random.default_rng(0).normal(3000, 1, (4, 16, 3)) + np.arange(4)[:, None, None]
    found = _described("activation", moments(jnp.asarray(x, jnp.float32))[None])
    np.testing.assert_allclose(found["activation_std"], x.std(), rtol=1e-3)


def test_whole_batches_take_every_example_once():
    images = np.arange(10.0).reshape(10, 1, 1, 1)
    examples = Examples(images, np.arange(10), {"examples": 10})
    batches, labels, facts = whole_batches(examples, 3, seed=0)
    assert labels.shape == (3, 3)
    assert len(set(labels.ravel())) == 9
    np.testing.assert_array_equal(batches.ravel(), labels.ravel())
    assert facts == {"examples": 9, "batch_size": 3}


@pytest.mark.slow
def test_gradients_shatter_in_plain_nets():
    """Balduzzi et al. 2017: at initialisation neighbours' gradients are alike with shortcuts only."""
    images, labels = tiny_data(batch=16)
    examples = Examples(images[0], labels[0], {})
    near = {}
    for shortcut in ("A", "none"):
        model = tiny_net(
            shortcut=shortcut, stage_sizes=(12,), widths=(16,), scan_blocks=True, num_classes=3
        )
        found = gradient_correlation(model, examples, 8)
        cosine = found["gradient_correlation"]
        assert cosine.shape == (14, POINTS)
        np.testing.assert_allclose(cosine[:, 0], 1, atol=1e-5)
        # The head is linear in the mean of the last output.
        np.testing.assert_allclose(cosine[-1, 1], 1, atol=0.2)
        near[shortcut] = cosine[0, 1]
    assert near["A"] > 0.3 > 0.1 > near["none"]


def test_command(tmp_path, small_plain_run, capsys):
    command = [
        "analyze",
        "gradients",
        f"--workdir={small_plain_run}",
        f"--out={tmp_path}",
        "--json",
    ]
    assert cli.main([*command, "--examples=40", "--step=init", "--lines=8"]) == 0
    results = json.loads(capsys.readouterr().out)
    # Mean field theory of batch norm: gradients of plain ReLU nets explode (Yang et al. 2019).
    assert 1.2 < results["plain"]["gradient_growth_per_block"] < 1.8
    arrays = np.load(tmp_path / "gradients.npz")
    assert arrays["plain/blocks"].tolist()[:2] == ["stem", "stage1/block1"]
    assert len(arrays["plain/layers"]) == len(arrays["plain/response_std"]) == 12
    facts = json.loads((tmp_path / "gradients.json").read_text())
    assert facts["examples"]["examples"] == 32
    assert facts["examples"]["batch_size"] == 16
    for figure in ("depth", "responses", "correlation"):
        assert (tmp_path / f"gradients_{figure}.png").exists()


@pytest.mark.parametrize("option", ["--lines=-1", "--examples=1"])
def test_refused(tmp_path, small_run, capsys, option):
    command = ["analyze", "gradients", f"--workdir={small_run}", f"--out={tmp_path / 'new'}"]
    assert cli.main([*command, option]) == 2
    assert option.partition("=")[0] in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_batch_of_one_value_per_channel_is_refused(tmp_path, capsys):
    fields = {"model.family": "imagenet", "model.depth": 18, "train.batch_size": 1}
    fields |= {"parallel.num_devices": 1}
    overrides = [f"--config.{name}={value}" for name, value in fields.items()]
    command = ["analyze", "gradients", "--config=configs/digits.py", f"--out={tmp_path / 'out'}"]
    assert cli.main([*command, *overrides, "--examples=3", "--lines=0"]) == 2
    assert "one value per channel, which has no statistics" in capsys.readouterr().err
    assert not list(tmp_path.glob("out/*"))
