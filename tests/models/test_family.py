"""The whole family: every combination builds and has finite gradients, and the identities that tie
its members to one another hold."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from resnet_jax import models

IMAGES = jax.random.normal(jax.random.key(0), (4, 32, 32, 3))
LABELS = jnp.array([1, 2, 3, 4])
X = jax.random.uniform(jax.random.key(1), (4, 8, 8, 16))


def split(model):
    graph, params, stats = nnx.split(model, nnx.Param, nnx.BatchStat)
    return graph, nnx.to_pure_dict(params), nnx.to_pure_dict(stats)


def loss_function(model, images=IMAGES, labels=LABELS, key=0):
    """Parameters → (loss, new statistics), gradients, in train mode."""
    graph, _, stats = split(model)

    def loss(params):
        merged = nnx.merge(graph, params, stats)
        logits = merged(images, jax.random.key(key))
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), nnx.to_pure_dict(nnx.state(merged, nnx.BatchStat))

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


def loss_and_gradients(model, images=IMAGES):
    return loss_function(model, images)(split(model)[1])


def assert_close(actual, expected, tolerance):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance),
        actual,
        expected,
    )


@pytest.mark.parametrize("order", models.ORDERS)
@pytest.mark.parametrize("shortcut", models.SHORTCUTS)
def test_every_shortcut_trains_in_every_order(shortcut, order):
    """One step on CIFAR shapes; blocks alternate, so that both meet every order and shortcut."""
    both = list(models.ORDERS).index(order) + list(models.SHORTCUTS).index(shortcut)
    block, depth = ("basic", 8) if both % 2 else ("bottleneck", 11)
    model = models.resnet(
        "cifar", depth, block=block, shortcut=shortcut, activation_order=order, rngs=nnx.Rngs(0)
    )
    params, step = split(model)[1], loss_function(model)
    (loss, _), gradients = step(params)
    for path, gradient in jax.tree.leaves_with_path(gradients):
        assert np.isfinite(gradient).all(), path
        assert np.any(gradient != 0), path
    # A short step against the gradient lowers the loss, by about its square.
    rate = 1e-3 / optax.global_norm(gradients)
    (after, _), _ = step(jax.tree.map(lambda p, g: p - rate * g, params, gradients))
    expected = 1e-3 * float(optax.global_norm(gradients))
    assert 0 < float(loss - after) < 2 * expected


@pytest.mark.parametrize(
    "options",
    [
        {"squeeze_reduction": 4},
        {"dropout": 0.3, "activation_order": "full_preactivation"},
        {"survival_probability": 0.5},
        {"antialias": True, "shortcut": "B"},
        {"branch_init": "skipinit", "norm": "none"},
        {"branch_init": "rezero", "norm": "none"},
        {"branch_init": "layerscale"},
        {"branch_init": "fixup", "norm": "none"},
        {"norm": "group", "weight_standardization": True},
        {"norm": "layer"},
        {"norm": "frozen_batch"},
        {"stem": "deep"},
        {"stem": "imagenet", "antialias": True},
        {"stem": "patchify"},
        {"block": "bottleneck", "depth": 11, "groups": 4, "bottleneck_width": 2},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_every_variant_has_finite_gradients(options):
    model = models.create("cifar_resnet8", **options, rngs=nnx.Rngs(0))
    (loss, _), gradients = loss_and_gradients(model)
    assert np.isfinite(loss)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


@pytest.mark.parametrize(
    ("options", "field", "words"),
    [
        ({"shortcut": "E"}, "shortcut", "none, A, B, C, D, constant_scaling"),
        ({"activation_order": "post"}, "activation_order", "original, norm_after_addition"),
        ({"gate_bias": -6.0}, "gate_bias", "exclusive_gating, shortcut_only_gating, highway"),
        ({"shortcut_scale": 0.5}, "shortcut_scale", "constant_scaling"),
        ({"shortcut": "highway", "shortcut_dropout": 0.5}, "shortcut_dropout", "dropout"),
        ({"branch_init": "xavier"}, "branch_init", "he, zero_gamma, fixup"),
        ({"branch_init": "zero_gamma", "shortcut": "none"}, "branch_init", "he"),
        (
            {"branch_init": "zero_gamma", "activation_order": "full_preactivation"},
            "branch_init",
            "original, relu_before_addition, relu_only_preactivation",
        ),
        ({"branch_init": "fixup"}, "branch_init", "norm 'none'"),
        (
            {"branch_init": "fixup", "norm": "none", "weight_standardization": True},
            "weight_standardization",
            "False, for branch_init 'fixup'",
        ),
        ({"branch_init": "zero_gamma", "norm": "frozen_batch"}, "branch_init", "not 'none' or"),
        ({"initial_scale": 0.1}, "initial_scale", "skipinit, layerscale"),
        ({"survival_probability": 0.5, "shortcut": "none"}, "survival_probability", "1"),
        ({"stochastic_depth_scaling": "both"}, "stochastic_depth_scaling", "test, train"),
        ({"groups": 2}, "groups", "1, for block 'basic'"),
        ({"bottleneck_width": 2}, "bottleneck_width", "1, for block 'basic'"),
        ({"block": "bottleneck", "depth": 11, "groups": 3}, "groups", "divisor"),
        ({"norm": "instance"}, "norm", "batch, frozen_batch, group, layer, none"),
        ({"norm_groups": 4}, "norm_groups", "None, for norm 'batch'"),
        ({"norm": "group", "norm_groups": 32}, "norm_groups", "divisor of every width, so of 16"),
        ({"remat": "all"}, "remat", "none, block, stage"),
        ({"stem": "tall"}, "stem", "cifar, imagenet, bit, deep, patchify"),
    ],
)  # fmt: skip
def test_illegal_combination_says_what_is_legal(options, field, words):
    with pytest.raises(models.IllegalChoiceError, match=words) as error:
        models.create("cifar_resnet8", **options, rngs=nnx.Rngs(0))
    assert error.value.field == field


def test_zero_gamma_net_is_the_net_of_its_shortcuts():
    model = models.create("cifar_resnet14", branch_init="zero_gamma", rngs=nnx.Rngs(0))
    stem = np.asarray(model.stem(IMAGES))
    skipped = np.pad(stem[:, ::4, ::4], [(0, 0)] * 3 + [(8 + 16, 8 + 16)])
    expected = model.head(jnp.asarray(skipped.mean((1, 2))))
    np.testing.assert_allclose(model(IMAGES), expected, rtol=1e-5, atol=1e-6)


OPEN, CLOSED = 40.0, -40.0


def block(shortcut, **options):
    made = models.BasicBlock(16, 16, shortcut=shortcut, **options, rngs=nnx.Rngs(0))
    made.eval()
    return made


@pytest.mark.parametrize("kind", ["exclusive_gating", "highway"])
def test_exclusive_gate_is_the_identity_closed_and_the_plain_block_open(kind):
    np.testing.assert_allclose(block(kind, gate_bias=CLOSED)(X), X, atol=1e-6)
    opened = block(kind, gate_bias=OPEN)
    np.testing.assert_allclose(opened(X), nnx.relu(opened.branch(X)), atol=1e-6)


def test_shortcut_only_gate_is_residual_closed_and_plain_open():
    closed, opened = (block("shortcut_only_gating", gate_bias=b) for b in (CLOSED, OPEN))
    np.testing.assert_allclose(closed(X), nnx.relu(X + closed.branch(X)), atol=1e-6)
    np.testing.assert_allclose(opened(X), nnx.relu(opened.branch(X)), atol=1e-6)


def test_gate_is_the_sigmoid_of_its_convolution():
    made = block("shortcut_only_gating", gate_bias=-1.0)
    kernel = np.asarray(made.shortcut.gate.kernel.get_value())[0, 0]
    gate = 1 / (1 + np.exp(-(np.asarray(X) @ kernel - 1.0)))
    expected = np.maximum((1 - gate) * X + made.branch(X), 0)
    np.testing.assert_allclose(made(X), expected, atol=1e-5)


def test_gates_are_not_standardised():
    options = {"shortcut": "highway", "squeeze_reduction": 4, "weight_standardization": True}
    model = nnx.eval_shape(lambda: models.create("cifar_resnet8", **options, rngs=nnx.Rngs(0)))
    made = model.stage1.blocks[0]
    plain = made.branch.squeeze_excite.reduce.conv_general_dilated
    assert made.shortcut.gate.conv_general_dilated is plain
    assert made.branch.conv1.conv_general_dilated is not plain


@pytest.mark.parametrize(("scale", "same"), [(1.0, "A"), (0.0, "none")])
def test_constant_scaling_has_residual_and_plain_as_its_ends(scale, same):
    scaled = block("constant_scaling", shortcut_scale=scale, branch_scale=1.0)
    np.testing.assert_allclose(scaled(X), block(same)(X), atol=1e-6)


def test_constant_scaling_is_a_weighted_sum():
    scaled = block("constant_scaling")
    expected = nnx.relu(0.5 * X + 0.5 * scaled.branch(X))
    np.testing.assert_allclose(scaled(X), expected, atol=1e-6)


def test_dropout_shortcut_drops_in_training_only():
    made = block("dropout", shortcut_dropout=0.25)
    np.testing.assert_allclose(made(X), block("A")(X), atol=1e-6)
    training = nnx.view(made, deterministic=False)
    skip = np.asarray(training.shortcut(jnp.ones((8, 8, 8, 16)), jnp.zeros(()), jax.random.key(0)))
    np.testing.assert_allclose(np.unique(skip), [0, 4 / 3], rtol=1e-6)
    assert (skip == 0).mean() == pytest.approx(0.25, abs=0.02)


def test_d_averages_where_a_subsamples():
    made = models.BasicBlock(16, 32, stride=2, shortcut="D", rngs=nnx.Rngs(0))
    made.eval()
    pooled = np.asarray(X).reshape(4, 4, 2, 4, 2, 16).mean((2, 4))
    kernel = np.asarray(made.shortcut.conv.kernel.get_value())[0, 0]
    expected = np.maximum(pooled @ kernel / math.sqrt(1 + 1e-5) + made.branch(X), 0)
    np.testing.assert_allclose(made(X), expected, atol=1e-5)


def test_first_unit_and_last_unit_of_a_preactivation_net_activate_once_more():
    """He 2016, appendix: by hand, for a net of one block."""
    model = models.ResNet(
        num_classes=3, stage_sizes=(1,), widths=(4,), stem="cifar",
        activation_order="full_preactivation", rngs=nnx.Rngs(0),
    )  # fmt: skip
    model.eval()
    first = model.stage1.blocks[0]
    activated = nnx.relu(model.stem.conv(IMAGES) / math.sqrt(1 + 1e-5))
    hidden = nnx.relu(first.branch.conv1(activated) / math.sqrt(1 + 1e-5))
    added = activated + first.branch.conv2(hidden)
    expected = model.head(nnx.relu(added / math.sqrt(1 + 1e-5)).mean((1, 2)))
    np.testing.assert_allclose(model(IMAGES), expected, atol=1e-5)


def tiny(**options):
    """Stages of three and two blocks, in float64."""
    return models.ResNet(
        num_classes=5, stage_sizes=(3, 2), widths=(4, 8), stem="cifar", dtype=jnp.float64,
        rngs=nnx.Rngs(0), **options,
    )  # fmt: skip


@pytest.mark.parametrize(
    "options", [{"shortcut": "A", "survival_probability": 0.6}, {"block": "bottleneck"}]
)
def test_scanned_net_equals_the_unrolled_one(options, x64):
    """Logits, gradients and statistics, with dropout and stochastic depth drawn alike."""
    images = jnp.asarray(IMAGES[:, :8, :8], jnp.float64)
    unrolled, scanned, rematerialised = (
        tiny(dropout=0.2, **options, **layout)
        for layout in (
            {"scan_blocks": False},
            {"scan_blocks": True},
            {"scan_blocks": True, "remat": "block"},
        )
    )
    params = split(unrolled)[1]
    assert_close(models.stack_blocks(params), split(scanned)[1], 0)
    assert_close(models.unstack_blocks(split(scanned)[1]), params, 0)
    (loss, stats), gradients = loss_and_gradients(unrolled, images)
    for model in (scanned, rematerialised):
        (other, other_stats), other_gradients = loss_and_gradients(model, images)
        np.testing.assert_allclose(other, loss, rtol=1e-12)
        assert_close(models.unstack_blocks(other_stats), stats, 1e-11)
        assert_close(models.unstack_blocks(other_gradients), gradients, 1e-10)


@pytest.mark.parametrize("remat", ["block", "stage"])
def test_rematerialised_net_equals_the_plain_one(remat, x64):
    images = jnp.asarray(IMAGES[:, :8, :8], jnp.float64)
    plain, again = tiny(), tiny(remat=remat)
    assert_close(loss_and_gradients(again, images), loss_and_gradients(plain, images), 1e-11)


@pytest.mark.parametrize(
    ("name", "scans"), [("resnet50", False), ("resnet110", True), ("preact_resnet1001", True)]
)
def test_depth_decides_on_scanning(name, scans):
    model = nnx.eval_shape(lambda: models.create(name, scan_blocks=None, rngs=nnx.Rngs(0)))
    assert (model.stage1.scanned is not None) == scans


def test_without_classes_the_network_returns_its_pooled_features():
    model = models.create("cifar_resnet8", num_classes=0, rngs=nnx.Rngs(0))
    features = model.features(IMAGES)
    assert {name: f.shape[-1] for name, f in features.items()} == model.feature_channels
    np.testing.assert_allclose(model(IMAGES), features["stage3"].mean((1, 2)), rtol=1e-5)
    assert models.count_parameters(model) == models.count_parameters(
        models.create("cifar_resnet8", rngs=nnx.Rngs(0))
    ) - (64 * 10 + 10)


def test_compiled_initialisation_is_the_eager_one():
    build = lambda rngs: models.create("cifar_resnet8", rngs=rngs)  # noqa: E731
    eager, compiled = build(nnx.Rngs(3)), models.initialise(build, 3)
    assert_close(split(compiled)[1], split(eager)[1], 1e-6)


def test_linear_decay_expects_three_quarters_of_the_blocks():
    """Huang 2016, §3: E = (3L − 1) / 4 blocks for p_L = 0.5."""
    model = nnx.eval_shape(
        lambda: models.create(
            "resnet110", survival_probability=0.5, scan_blocks=False, rngs=nnx.Rngs(0)
        )
    )
    stages = (model.stage1, model.stage2, model.stage3)
    survival = [b.drop_path.survival_probability for stage in stages for b in stage.blocks]
    assert sum(survival) == pytest.approx((3 * 54 - 1) / 4)
    assert survival[-1] == 0.5
    assert survival == sorted(survival, reverse=True)


@pytest.mark.parametrize("scaling", ["test", "train"])
@pytest.mark.parametrize("deterministic", [False, True])
def test_survival_of_one_is_no_stochastic_depth(scaling, deterministic):
    layer = nnx.view(models.StochasticDepth(1.0, scaling), deterministic=deterministic)
    np.testing.assert_array_equal(layer(X, jax.random.key(0)), X)


@pytest.mark.parametrize("scaling", ["test", "train"])
def test_stochastic_depth_has_one_mean_in_training_and_evaluation(scaling):
    layer = models.StochasticDepth(0.7, scaling)
    ones = jnp.ones((4000, 1))
    drawn = layer(ones, jax.random.key(0))
    assert len(np.unique(drawn)) == 2
    expected = nnx.view(layer, deterministic=True)(ones)
    assert expected[0, 0] == pytest.approx(0.7 if scaling == "test" else 1.0)
    assert drawn.mean() == pytest.approx(float(expected[0, 0]), abs=0.03)


@pytest.mark.parametrize(
    "make",
    [
        lambda: models.Dropout(1.0),
        lambda: models.Dropout(-0.1),
        lambda: models.StochasticDepth(0.0),
        lambda: models.StochasticDepth(1.5),
        lambda: models.Residual(nnx.relu, norm="none", drop_path=1.0),
    ],
)
def test_probabilities_that_cannot_be_are_refused(make):
    with pytest.raises(models.IllegalChoiceError):
        make()


@pytest.mark.parametrize(
    "layout", [{"scan_blocks": True}, {"remat": "block"}, {"remat": "stage"},
               {"scan_blocks": True, "remat": "stage"}],
)  # fmt: skip
def test_a_network_in_eval_mode_may_be_closed_over(layout, x64):
    """Nothing is written there, so any transformation may own the network."""
    images = jnp.asarray(IMAGES[:, :8, :8], jnp.float64)

    def gradient(model):
        model.eval()
        return jax.jit(jax.grad(lambda x: model(x).sum()))(images)

    np.testing.assert_allclose(gradient(tiny(**layout)), gradient(tiny()), rtol=1e-9)


def test_equal_networks_have_equal_graphs():
    """So that a compiled function that takes the graph is found again."""
    build = lambda: models.create("cifar_resnet8", weight_standardization=True, rngs=nnx.Rngs(0))  # noqa: E731
    assert nnx.graphdef(nnx.eval_shape(build)) == nnx.graphdef(nnx.eval_shape(build))


@pytest.mark.parametrize("branch_init", ["rezero", "fixup"])
def test_net_starts_as_its_shortcuts_without_norms(branch_init):
    model = models.create("cifar_resnet14", branch_init=branch_init, norm="none", rngs=nnx.Rngs(0))
    np.testing.assert_allclose(model.stage1(X), X, atol=1e-6)
    if branch_init == "fixup":
        assert not np.any(model(IMAGES))


def test_skipinit_starts_at_one_over_the_root_of_the_depth():
    model = models.create("resnet20", branch_init="skipinit", norm="none", rngs=nnx.Rngs(0))
    made = model.stage1.blocks[0]
    np.testing.assert_allclose(made(X), nnx.relu(X + made.branch(X) / 3), atol=1e-5)


def test_fixup_scales_by_depth():
    """Zhang 2019, §3, rule 2: L^(-1/(2m-2)), so L^(-1/2) for two layers and L^(-1/4) for three."""
    for block_name, depth, power in (("basic", 56, 1 / 2), ("bottleneck", 83, 1 / 4)):
        options = {"block": block_name, "depth": depth, "norm": "none", "scan_blocks": False}
        fixup = models.create("resnet56", branch_init="fixup", **options, rngs=nnx.Rngs(0))
        he = models.create("resnet56", **options, rngs=nnx.Rngs(0))
        ratio = (
            fixup.stage3.blocks[4].branch.conv1.kernel.get_value().std()
            / he.stage3.blocks[4].branch.conv1.kernel.get_value().std()
        )
        assert ratio == pytest.approx(27**-power, rel=0.03)


@pytest.mark.slow
def test_fixup_110_trains_without_any_norm():
    model = models.create(
        "resnet110", branch_init="fixup", norm="none", scan_blocks=True, rngs=nnx.Rngs(0),
        convolution="loop_safe",
    )  # fmt: skip
    graph, params, stats = split(model)
    assert not stats
    images = jax.random.normal(jax.random.key(2), (10, 8, 8, 3))
    labels = jnp.arange(10)
    optimizer = optax.sgd(0.05, 0.9)

    @jax.jit
    def step(params, state):
        def loss(params):
            logits = nnx.merge(graph, params, stats)(images)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    state, losses = optimizer.init(params), []
    for _ in range(25):
        params, state, value = step(params, state)
        losses.append(float(value))
    assert losses[0] == pytest.approx(math.log(10), rel=1e-5)
    assert losses[-1] < 0.75 * losses[0], losses


def test_dense_logits_average_to_the_logits():
    model = models.create("cifar_resnet8", rngs=nnx.Rngs(0))
    model.eval()
    dense = model.dense_logits(IMAGES)
    assert dense.shape == (4, 8, 8, 10)
    np.testing.assert_allclose(dense.mean((1, 2)), model(IMAGES), atol=1e-5)
    np.testing.assert_allclose(
        models.multi_scale_logits(model, IMAGES, (32,)), model(IMAGES), atol=1e-5
    )


def test_multi_scale_logits_are_the_mean_over_resized_images():
    model = models.create("cifar_resnet8", rngs=nnx.Rngs(0))
    model.eval()
    images = IMAGES[:, :24]
    resized = jax.image.resize(images, (4, 36, 48, 3), "bilinear")
    expected = (model(images) + model(resized)) / 2
    np.testing.assert_allclose(
        models.multi_scale_logits(model, images, (24, 36)), expected, atol=1e-5
    )


def test_an_example_draws_the_same_wherever_it_stands():
    """What makes dropout and stochastic depth independent of the number of devices."""
    options = {"dropout": 0.3, "survival_probability": 0.5, "norm": "layer"}
    model = models.create("cifar_resnet8", **options, rngs=nnx.Rngs(0))
    keys = jax.random.split(jax.random.key(3), 4)
    whole = model(IMAGES, keys)
    np.testing.assert_allclose(model(IMAGES[2:], keys[2:]), whole[2:], atol=1e-5)
    assert not np.allclose(model(IMAGES, jax.random.key(4)), whole, atol=1e-2)


@pytest.mark.parametrize("scan", [False, True])
def test_rngs_of_a_call_are_the_key_that_they_give(scan):
    options = {"dropout": 0.3, "survival_probability": 0.5, "norm": "layer", "scan_blocks": scan}
    model = models.create("cifar_resnet14", **options)
    key = nnx.Rngs(dropout=3).dropout()
    expected = model(IMAGES, key)
    rngs = nnx.Rngs(dropout=3)
    np.testing.assert_array_equal(model(IMAGES, rngs=rngs), expected)
    assert not np.allclose(model(IMAGES, rngs=rngs), expected, atol=1e-2)
    np.testing.assert_array_equal(model(IMAGES, rngs=nnx.Rngs(dropout=3).dropout), expected)
    np.testing.assert_array_equal(model(IMAGES, rngs=key), expected)
    last = model.features(IMAGES, rngs=nnx.Rngs(dropout=3))["stage3"]
    np.testing.assert_array_equal(last, model.features(IMAGES, key)["stage3"])
    with pytest.raises(ValueError, match="not both"):
        model(IMAGES, key, rngs=rngs)


def test_rngs_are_left_alone_where_nothing_is_drawn():
    model = models.create("cifar_resnet8", dropout=0.3)
    model.eval()
    rngs = nnx.Rngs(dropout=3)
    model(IMAGES, rngs=rngs)
    models.create("cifar_resnet8")(IMAGES, rngs=rngs)
    assert rngs.dropout.count.get_value() == 0


def test_layers_and_blocks_take_rngs_too():
    def rngs():
        return nnx.Rngs(dropout=1)

    key = rngs().dropout()
    block = models.BasicBlock(16, 16, survival_probability=0.5, dropout=0.5, rngs=nnx.Rngs(0))
    for layer in (models.Dropout(0.5), models.StochasticDepth(0.5), block):
        np.testing.assert_array_equal(layer(X, rngs=rngs()), layer(X, key=key))
        assert not np.array_equal(layer(X, rngs=rngs()), nnx.view(layer, deterministic=True)(X))


def test_without_a_key_dropout_says_what_to_do():
    with pytest.raises(ValueError, match=r"key=jax.random.key"):
        models.create("cifar_resnet8", dropout=0.3, rngs=nnx.Rngs(0))(IMAGES)


@pytest.mark.parametrize(
    ("scan", "remat"),
    [(False, "none"), (False, "stage"), (True, "none"), (True, "block"), (True, "stage")],
)
def test_survival_probability_that_is_set_is_that_of_a_net_built_with_it(scan, remat):
    """In both modes; it may be traced, so that runs with several share a program."""
    options = {"scan_blocks": scan, "remat": remat, "in_channels": 1}

    def build(probability):
        return models.initialise(
            lambda rngs: models.create(
                "cifar_resnet14", survival_probability=probability, rngs=rngs, **options
            )
        )

    def logits(model, probability=None):
        if probability is not None:
            model.set_survival(probability)
        trained = model(x, key)
        model.eval()
        return trained, model(x)

    x, key = jax.random.normal(jax.random.key(0), (4, 8, 8, 1)), jax.random.key(1)
    expected, own = logits(build(0.4)), logits(build(0.9))
    called = logits(build(0.9), jnp.float32(0.4))
    for actual, right, wrong in zip(called, expected, own, strict=True):
        np.testing.assert_allclose(actual, right, rtol=1e-4, atol=1e-5)
        assert not np.allclose(right, wrong, rtol=1e-2)
