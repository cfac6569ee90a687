"""Similarity, class activation and feature maps are what their equations say."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from resnet_jax import models
from resnet_jax.analysis.class_activation import grad_cam
from resnet_jax.analysis.features import feature_maps, first_filters
from resnet_jax.analysis.similarity import cka, gram, hsic, layer_similarity
from resnet_jax.cli import main

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(6, 8, 8, 3)).astype(np.float32)


def make_net(seed=0, **options):
    """A network of random arrays, which need no compiled program."""

    def build(rngs):
        net = {"num_classes": 3, "stage_sizes": (2, 2), "widths": (4, 8), "stem": "cifar"}
        return models.ResNet(**net | options, rngs=rngs)

    graph, state = nnx.split(nnx.eval_shape(lambda: build(nnx.Rngs(0))))
    rng = np.random.default_rng(seed)
    centre = {"scale": 1, "var": 1}

    def value(path, leaf):
        return jnp.asarray(
            centre.get(path[-1].key, 0) + rng.uniform(-0.4, 0.4, leaf.shape), leaf.dtype
        )

    arrays = jax.tree.map_with_path(value, nnx.to_pure_dict(state))
    return models.evaluation_view(nnx.merge(graph, arrays))


def test_hsic_is_the_unbiased_statistic_of_four_examples(x64):
    n, layers = 6, RNG.normal(size=(2, 6, 5))
    k, other = (layer @ layer.T for layer in layers)
    terms = [
        k[i, j] * other[i, j] + k[i, j] * other[q, r] - 2 * k[i, j] * other[i, q]
        for i, j, q, r in itertools.permutations(range(n), 4)
    ]
    grams = jnp.stack([gram(jnp.asarray(layer)) for layer in layers])
    found = hsic(grams, grams)
    np.testing.assert_allclose(found[0, 1], np.mean(terms), rtol=1e-10)
    np.testing.assert_allclose(found, found.T, rtol=1e-10)


def test_cka_sees_no_rotation_and_no_scale(x64):
    x = RNG.normal(size=(20, 5))
    rotation, _ = np.linalg.qr(RNG.normal(size=(5, 5)))
    alike = [x, 3 * x @ rotation + 7, x * [1, 1, 1, 1, 9], RNG.normal(size=(20, 8))]
    grams = jnp.stack([gram(jnp.asarray(a)) for a in alike])
    found = cka(np.asarray(hsic(grams, grams))[None])
    np.testing.assert_allclose(found.diagonal(), 1)
    assert found[0, 1] == pytest.approx(1)
    assert found[0, 2] < 0.9
    assert abs(found[0, 3]) < 0.3


def test_a_constant_layer_is_like_none():
    grams = jnp.stack([gram(jnp.asarray(IMAGES)), gram(jnp.ones((6, 4)))])
    assert np.isnan(cka(hsic(grams, grams)[None])[0, 1])


def test_layers_are_the_stem_and_the_blocks_of_each_network():
    nets = make_net(), make_net(1, stage_sizes=(1, 1))
    found = layer_similarity(nets, IMAGES, batch_size=5)
    assert found.shape == (5 + 3, 5 + 3)
    features = [list(net.features(IMAGES[:5]).values()) for net in nets]
    grams = jnp.stack([gram(x) for x in (*features[0], *features[1])])
    expected = cka(np.asarray(hsic(grams, grams))[None])
    rows = [0, 2, 4, 5, 6, 7]
    np.testing.assert_allclose(found[np.ix_(rows, rows)], expected, atol=1e-3)


def test_the_last_map_is_that_of_the_weights_of_the_class():
    model = make_net()
    classes = np.array([0, 1, 2, 0, 1, 2])
    maps, logits = grad_cam(model, IMAGES, classes)
    last = np.asarray(model.features(IMAGES)["stage2"])
    kernel = np.asarray(model.head.kernel.get_value())[:, classes]
    expected = np.maximum(np.einsum("nhwc,cn->nhw", last, kernel), 0) / 16
    np.testing.assert_allclose(maps[1], expected, atol=1e-6)
    np.testing.assert_allclose(logits, model(IMAGES), atol=1e-5)
    likeliest, _ = grad_cam(model, IMAGES)
    chosen, _ = grad_cam(model, IMAGES, logits.argmax(1))
    np.testing.assert_array_equal(likeliest[0], chosen[0])


def test_an_earlier_map_is_that_of_the_gradient_there():
    model = make_net()
    a = model.features(IMAGES)["stage1"]
    weights = jax.grad(lambda a: model.classify(model.stage2(a))[:, 1].sum())(a).mean((1, 2))
    expected = np.maximum(np.einsum("nhwc,nc->nhw", a, weights), 0)
    maps, _ = grad_cam(model, IMAGES, np.ones(6, int))
    np.testing.assert_allclose(maps[0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "ends_with_relu"),
    [
        ({"shortcut": "A"}, True),
        ({"shortcut": "none"}, True),
        ({"shortcut": "exclusive_gating"}, True),
        ({"activation_order": "full_preactivation"}, False),
    ],
)
def test_skip_and_branch_add_up(options, ends_with_relu):
    model = make_net(**options)
    found = feature_maps(model, IMAGES)
    for stage, output in model.features(IMAGES).items():
        if stage != "stem":
            skip, branch = found[stage]
            joined = skip + branch
            joined = np.maximum(joined, 0) if ends_with_relu else joined
            # Rounded as the largest of the terms are.
            np.testing.assert_allclose(joined, output, atol=1e-6 * np.abs(output).max())
            assert (np.abs(skip).max() > 0) == (options.get("shortcut") != "none")
            assert np.abs(branch).max() > 0


@pytest.mark.parametrize(("stem", "size"), [("cifar", 3), ("imagenet", 7), ("deep", 3)])
def test_filters_are_those_that_see_the_image(stem, size):
    model = make_net(stem=stem)
    first = getattr(model.stem, "conv1" if stem == "deep" else "conv").kernel.get_value()
    np.testing.assert_array_equal(first_filters(model), first)
    assert first.shape[:3] == (size, size, 3)


def test_networks_are_seen_side_by_side(small_run, small_plain_run, tmp_path, capsys):
    runs = [f"--workdir={path}" for path in (small_run, small_plain_run)]
    words = ["analyze", "features", *runs, f"--out={tmp_path}", "--examples=20"]
    assert main([*words, "--images", "0", "20"]) == 2
    assert "--images = 20: allowed: from 0 to 19" in capsys.readouterr().err
    assert main([*words, "--images", *["0"] * 51]) == 2
    assert "--images = '51 numbers': allowed: at most 50" in capsys.readouterr().err
    assert main([*words, "--images", "0", "5", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"residual", "plain"}
    with np.load(tmp_path / "features.npz") as arrays:
        assert arrays["images"].shape == (2, 8, 8, 1)
        assert arrays["residual/layers"].tolist()[:2] == ["stem", "stage1/block1"]
        assert arrays["plain/similarity_with_first"].shape == (7, 7)
        assert arrays["plain/activation/stage3"].shape == (2, 2, 2)
        assert not arrays["plain/skip/stage2"].any()
    assert len(list(tmp_path.glob("*.png"))) == 6
