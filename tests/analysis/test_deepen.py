"""A deepened network computes what the shallow one does, and learns from there."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from resnet_jax import models
from resnet_jax.analysis.chain import batch_statistics_view
from resnet_jax.analysis.deepen import config_text, deepen, run_network
from resnet_jax.analysis.identity import Moments
from resnet_jax.cli import main
from resnet_jax.config import default_config, override
from resnet_jax.errors import UserError

PREACTIVATED = {"activation_order": "full_preactivation"}
KINDS = {
    "A": {"shortcut": "A"},
    "scanned": {"scan_blocks": True},
    "preactivated": PREACTIVATED,
    "bottleneck": {"block": "bottleneck"},
    "preactivated bottleneck": {"block": "bottleneck", **PREACTIVATED},
    "relu only": {"activation_order": "relu_only_preactivation"},
    "norm after addition": {"activation_order": "norm_after_addition"},
    "projections": {"shortcut": "C"},
    "group norm": {"norm": "group", "squeeze_reduction": 4},
    "frozen": {"norm": "frozen_batch"},
    "fixup": {"branch_init": "fixup", "norm": "none"},
    "rezero": {"branch_init": "rezero", "norm": "none"},
    "layerscale": {"branch_init": "layerscale", "activation_order": "relu_before_addition"},
    "dropout of shortcuts": {"shortcut": "dropout"},
    "drop path": {"survival_probability": 0.5, "stochastic_depth_scaling": "train"},
    "plain": {"shortcut": "none"},
    "plain, norm after addition": {"shortcut": "none", "activation_order": "norm_after_addition"},
    "plain, no norm": {"shortcut": "none", "norm": "none"},
}
# Running statistics undo what a norm of other statistics does.
CALIBRATED = ("norm after addition", "projections", "plain", "plain, norm after addition")
DRAWN = ("drop path", "dropout of shortcuts")


FRESH = {"scale": 1, "var": 1, "value": 1, "bias": 0, "mean": 0}


def make_net(blocks, trained=False, **options):
    """A network whose arrays need no compiled program; trained, its norms have seen something."""

    def build(rngs):
        net = {"num_classes": 3, "stage_sizes": blocks, "widths": (4, 8)[: len(blocks)]}
        return models.ResNet(**net | {"stem": "cifar", "shortcut": "B"} | options, rngs=rngs)

    graph, state = nnx.split(nnx.eval_shape(lambda: build(nnx.Rngs(0))))
    rng = np.random.default_rng(len(blocks))

    def value(path, leaf):
        centre = FRESH.get(path[-1].key)
        if centre is None or trained:
            return ((centre or 0) + rng.uniform(-0.4, 0.4, leaf.shape)).astype(np.float32)
        return np.full(leaf.shape, centre, np.float32)

    arrays = jax.tree.map_with_path(value, nnx.to_pure_dict(state))
    return models.evaluation_view(nnx.merge(graph, jax.tree.map(jnp.asarray, arrays)))


def images(count=5):
    return np.random.default_rng(2).normal(size=(count, 8, 8, 3)).astype(np.float32)


def deepened(name, **options):
    shallow, deeper = make_net((1,), trained=True, **options), make_net((3,), **options)
    moments = [Moments(np.zeros(1), np.ones(1))]
    if name in CALIBRATED:
        x = np.asarray(shallow.features(images())["stage1"])
        moments = [Moments(x.mean((0, 1, 2)), x.var((0, 1, 2)))]
    return shallow, deeper, deepen(shallow, deeper, moments)


@pytest.mark.parametrize("name", KINDS)
def test_the_deeper_network_computes_the_same(name):
    shallow, deeper, same_in_training = deepened(name, **KINDS[name])
    x = images()
    # float32 rounds where a norm is undone.
    tolerance = 1e-5 if name in CALIBRATED else 1e-6
    np.testing.assert_allclose(deeper(x), shallow(x), atol=tolerance, rtol=0)
    assert np.abs(shallow(x)).max() > 0.1
    # By statistics of the batch they differ where a norm is undone.
    in_training = [batch_statistics_view(model)(x) for model in (deeper, shallow)]
    same = np.allclose(*in_training, atol=1e-4, rtol=0)
    assert same == (name not in CALIBRATED)
    assert same_in_training == (name not in (*CALIBRATED, *DRAWN))


@pytest.mark.parametrize("name", ["A", "preactivated", "rezero", "plain"])
def test_new_blocks_learn(name):
    _, deeper, _ = deepened(name, **KINDS[name])
    graph, state = nnx.split(batch_statistics_view(deeper))
    x = images()
    loss = lambda arrays: nnx.merge(graph, arrays)(x)[:, 0].sum()  # noqa: E731
    found = jax.grad(loss)(nnx.to_pure_dict(state))
    last = found["stage1"]["blocks"][2]
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(last)) > 1e-4


def test_moments_are_those_of_what_a_stage_puts_out():
    model = make_net((1, 2), trained=True)
    x = images(130)
    logits, moments = run_network(model, x)
    features = model.features(x)
    np.testing.assert_allclose(logits, model(x), atol=1e-5)
    for number in (1, 2):
        y = np.asarray(features[f"stage{number}"], np.float64)
        np.testing.assert_allclose(moments[number - 1].mean, y.mean((0, 1, 2)), atol=1e-5)
        np.testing.assert_allclose(moments[number - 1].var, y.var((0, 1, 2)), rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"shortcut": "exclusive_gating"}, "model.shortcut = 'exclusive_gating': no block"),
        ({"shortcut": "constant_scaling"}, "model.shortcut = 'constant_scaling': no block"),
        ({"shortcut": "C", **PREACTIVATED}, "model.shortcut = 'C': a projection of what is"),
        ({"shortcut": "C", "norm": "group"}, "model.norm = 'group or layer': what it takes"),
        ({"activation_order": "relu_before_addition"}, "ends with a ReLU gets no gradient"),
        ({"weight_standardization": True, **PREACTIVATED}, "standardised filters are neither"),
        ({"survival_probability": 0.5}, "only `train` works"),
        ({"shortcut": "none", **PREACTIVATED}, "not the identity: the ReLU before"),
        ({"shortcut": "none", "block": "bottleneck"}, "not the identity: fewer filters"),
        ({"shortcut": "none", "squeeze_reduction": 2}, "not the identity: gates"),
        ({"shortcut": "none", "norm": "layer"}, "cannot be given back"),
    ],
)
def test_what_cannot_be_an_identity_is_refused(options, problem):
    with pytest.raises(UserError, match=problem):
        deepened("", **options)


def test_fewer_or_other_blocks_are_refused():
    for other in (make_net((1,)), make_net((2,), block="bottleneck")):
        with pytest.raises(UserError, match=r"--depth = '\[[12]\] blocks'"):
            deepen(make_net((2,)), other, [])


def test_command(small_run, tmp_path, capsys):
    words = ["analyze", "deepen", f"--workdir={small_run}", f"--out={tmp_path}", "--examples=20"]
    assert main([*words, "--depth=8"]) == 2
    assert not list(tmp_path.iterdir())
    assert main([*words, "--depth=20", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out).values()
    assert found["layers"] == "14 → 20"
    assert found["largest_logit_difference"] < 1e-5
    assert found["error"] == found["deeper_error"]


@pytest.mark.slow
def test_the_written_config_trains_on_from_where_the_run_ended(small_run, tmp_path):
    words = ["analyze", "deepen", f"--workdir={small_run}", f"--out={tmp_path}", "--examples=20"]
    assert main([*words, "--depth=20"]) == 0
    # One step at hardly any rate: what is evaluated behind it is the start.
    fields = {
        "train.duration": "1 step",
        "schedule.warmup": 0,
        "optimizer.learning_rate": 1e-9,
        "model.norm_momentum": 0.99999999,
    }
    on, config = tmp_path / "on", tmp_path / "deepened.py"
    overrides = [f"--config.{field}={value}" for field, value in fields.items()]
    assert main(["train", f"--config={config}", f"--workdir={on}", *overrides]) == 0
    results = [json.loads((d / "status.json").read_text())["result"] for d in (small_run, on)]
    assert results[1]["accuracy"] == pytest.approx(results[0]["accuracy"])
    assert results[1]["loss"] == pytest.approx(results[0]["loss"], rel=1e-4)


@given(st.text(st.characters(codec=None), max_size=12), st.text(max_size=12))
def test_a_written_config_has_any_text_as_it_was(name, path):
    config = override(default_config(), {"data.name": f"folder:{name}", "model.freeze": (name,)})
    file = Path("deep", f"{path}.py")
    scope = {"__file__": str(file)}
    exec(compile(config_text(config, f'"{name}"', file), "deepened.py", "exec"), scope)
    found = scope["get_config"]()
    assert (found.data.name, found.model.freeze) == (config.data.name, config.model.freeze)
