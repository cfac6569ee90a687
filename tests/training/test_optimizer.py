"""Optimisers and schedules against their definitions."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from resnet_jax.config import Config, load_config, override, to_steps
from resnet_jax.errors import UserError
from resnet_jax.models import stack_blocks
from resnet_jax.training.hyperparameters import hyperparameters
from resnet_jax.training.optimizer import (
    OPTIMIZERS,
    decay_mask,
    make_optimizer,
    make_schedule,
    schedule_warnings,
)

PARAMS = {
    "conv": {"kernel": jnp.array([[1.0, -2.0], [0.5, 3.0]])},
    "norm": {"scale": jnp.array([1.0, 2.0]), "bias": jnp.array([0.5, -0.5])},
}
GRADIENT = jax.tree.map(lambda p: 0.1 * p + 0.3, PARAMS)


def optimizer_of(config):
    schedule = make_schedule(config, total_steps=100, num_examples=1000)
    return make_optimizer(config)(hyperparameters(config, schedule, 100))


def run(config, steps=3):
    optimizer = optimizer_of(config)
    params, state = PARAMS, optimizer.init(PARAMS)
    for _ in range(steps):
        updates, state = optimizer.update(GRADIENT, state, params)
        params = optax.apply_updates(params, updates)
    return params


def constant(name, **fields):
    changed = {f"optimizer.{field}": value for field, value in fields.items()}
    return override(Config(), {"schedule.name": "constant", "optimizer.name": name} | changed)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay_all", [False, True])
def test_sgd_is_coupled_decay_then_momentum(nesterov, decay_all):
    config = constant("sgd", nesterov=nesterov, weight_decay=0.01, decay_norm_and_bias=decay_all)
    actual = run(config)
    for layer, leaves in PARAMS.items():
        for name, w in leaves.items():
            w, velocity = np.asarray(w, np.float64), 0.0
            for _ in range(3):
                decay = 0.01 * w if decay_all or name == "kernel" else 0.0
                g = np.asarray(GRADIENT[layer][name]) + decay
                velocity = 0.9 * velocity + g
                w = w - 0.1 * (g + 0.9 * velocity if nesterov else velocity)
            np.testing.assert_allclose(actual[layer][name], w, rtol=1e-5)


def test_sgd_and_adamw_equal_torch():
    torch = pytest.importorskip("torch")
    ours = {
        "sgd": run(constant("sgd", weight_decay=0.01, nesterov=True)),
        "adamw": run(constant("adamw", weight_decay=0.01)),
    }
    theirs = {
        "sgd": lambda p: torch.optim.SGD(p, 0.1, 0.9, nesterov=True, weight_decay=0.01),
        "adamw": lambda p: torch.optim.AdamW(p, 0.1, (0.9, 0.999), 1e-8, weight_decay=0.01),
    }
    for name, make in theirs.items():
        w = torch.tensor(np.asarray(PARAMS["conv"]["kernel"]), requires_grad=True)
        optimizer = make([w])
        for _ in range(3):
            w.grad = torch.tensor(np.asarray(GRADIENT["conv"]["kernel"]))
            optimizer.step()
        np.testing.assert_allclose(ours[name]["conv"]["kernel"], w.detach().numpy(), rtol=5e-5)


def test_lars_scales_by_the_trust_ratio():
    config = constant("lars", weight_decay=0.01, momentum=0.0, decay_norm_and_bias=False)
    actual = run(config, steps=1)
    w, g = np.asarray(PARAMS["conv"]["kernel"]), np.asarray(GRADIENT["conv"]["kernel"])
    decayed = g + 0.01 * w
    ratio = 0.001 * np.linalg.norm(w) / np.linalg.norm(decayed)
    np.testing.assert_allclose(actual["conv"]["kernel"], w - 0.1 * ratio * decayed, rtol=1e-5)
    bias, bias_gradient = PARAMS["norm"]["bias"], GRADIENT["norm"]["bias"]
    np.testing.assert_allclose(actual["norm"]["bias"], bias - 0.1 * bias_gradient, rtol=1e-5)


def test_lamb_scales_adam_by_the_trust_ratio():
    actual = run(constant("lamb", weight_decay=0.01), steps=1)
    w, g = np.asarray(PARAMS["conv"]["kernel"]), np.asarray(GRADIENT["conv"]["kernel"])
    update = g / (np.abs(g) + 1e-8) + 0.01 * w
    ratio = np.linalg.norm(w) / np.linalg.norm(update)
    np.testing.assert_allclose(actual["conv"]["kernel"], w - 0.1 * ratio * update, rtol=1e-4)


def test_clipping_bounds_the_global_norm():
    config = constant("sgd", weight_decay=0.0)
    config = override(config, {"train.clip_gradient_norm": 0.1})
    norm = optax.global_norm(GRADIENT)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g * 0.1 / norm, PARAMS, GRADIENT)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), run(config, steps=1), expected
    )


def test_decay_mask_goes_by_name():
    assert decay_mask(PARAMS) == {"conv": {"kernel": True}, "norm": {"scale": False, "bias": False}}


def test_he_step_schedule():
    config = override(Config(), {"schedule.boundaries": (32, 48)})
    schedule = make_schedule(config, 64, 1000)
    for step, rate in [(0, 0.1), (31, 0.1), (32, 0.01), (47, 0.01), (48, 0.001), (63, 0.001)]:
        assert schedule(step) == pytest.approx(rate)


def test_goyal_warmup_and_linear_scaling():
    config = override(
        Config(),
        {
            "train.batch_size": 1024,
            "optimizer.reference_batch_size": 256,
            "schedule.warmup": "5 epochs",
            "schedule.boundaries": ("30 epochs",),
        },
    )
    schedule = make_schedule(config, 900, num_examples=10240)
    assert schedule(0) == 0
    assert schedule(25) == pytest.approx(0.2)
    assert schedule(50) == pytest.approx(0.4)
    assert schedule(299) == pytest.approx(0.4)
    assert schedule(300) == pytest.approx(0.04)


def test_cosine_falls_to_its_final_factor_at_the_end():
    config = override(
        Config(),
        {
            "schedule.name": "cosine",
            "schedule.warmup": 20,
            "schedule.warmup_start_factor": 0.5,
            "schedule.final_factor": 0.01,
        },
    )
    schedule = make_schedule(config, 120, 1000)
    assert schedule(0) == pytest.approx(0.05)
    assert schedule(20) == pytest.approx(0.1)
    assert schedule(70) == pytest.approx(0.1 * (0.99 * 0.5 + 0.01))
    assert schedule(120) == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("optimizer.name", "sdg", "did you mean 'sgd'"),
        ("schedule.name", "cosin", "did you mean 'cosine'"),
        ("schedule.warmup", 100, "shorter than train.duration"),
        ("schedule.boundaries", (50, 20), "must rise"),
    ],
)
def test_wrong_choice_is_one_clear_line(field, value, words):
    config = override(Config(), {field: value})
    with pytest.raises(UserError, match=words):
        optimizer_of(config)


def test_every_optimizer_moves_every_parameter():
    for name in OPTIMIZERS:
        moved = jax.tree.map(lambda a, b: bool(jnp.all(a != b)), run(constant(name)), PARAMS)
        assert all(jax.tree.leaves(moved)), name


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("decay_all", [False, True])
def test_stacked_blocks_are_updated_as_if_apart(name, decay_all):
    """A norm over a whole stack would give all its blocks one trust ratio."""
    values = [jax.tree.map(lambda p, s=s: s * p, PARAMS) for s in (1.0, 3.0, 0.1)]
    blocks = dict(enumerate(values))
    config = constant(name, weight_decay=0.01, decay_norm_and_bias=decay_all)
    optimizer = optimizer_of(config)

    def step(params):
        gradient = jax.tree.map(lambda p: jnp.sin(p) + 0.2, params)
        return optimizer.update(gradient, optimizer.init(params), params)[0]

    apart = stack_blocks({"stage1": step({"stage1": {"blocks": blocks}})["stage1"]})
    together = step(stack_blocks({"stage1": {"blocks": blocks}}))
    assert "scanned" in together["stage1"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), together, apart)


CONFIGS = Path(__file__).parents[2] / "configs"
SHIPPED = {
    str(path.relative_to(CONFIGS)) + form: path
    for path in sorted(CONFIGS.rglob("*.py"))
    for form in (("", ":full") if path.parent.name == "sweeps" else ("",))
}
SIZES = {"digits": 1437, "fashion_mnist": 60_000, "cifar10": 50_000, "cifar100": 50_000}


@pytest.mark.parametrize("duration", ["10 steps", "1 epoch"])
@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_config_that_is_shortened_says_what_to_set(name, duration):
    config = override(load_config(str(CONFIGS / name)), {"train.duration": duration})
    examples = SIZES.get(config.data.name, 9_469 if "imagenette" in name else 1_281_167)
    steps = round(to_steps("train.duration", duration, examples, config.train.batch_size))
    was_told = False
    for _ in range(3):
        try:
            make_schedule(config, steps, examples)
            warnings = schedule_warnings(config, steps, examples)
        except UserError as error:
            warnings = [str(error)]
        if not warnings:
            break
        was_told = True
        advice = dict(re.findall(r"set e.g. --config\.([\w.]+)='?([\d, ]+)", " ".join(warnings)))
        assert len(advice) == len(warnings)
        assert all("\n" not in warning for warning in warnings)
        config = override(config, advice)
    assert not warnings
    rates = [float(make_schedule(config, steps, examples)(step)) for step in (0, steps - 1)]
    assert np.isfinite(rates).all()
    if config.schedule.boundaries:
        assert rates[1] < max(rates[0], config.optimizer.learning_rate)
    recipe = load_config(str(CONFIGS / name)).schedule
    if duration == "10 steps" and (recipe.warmup or recipe.boundaries):
        assert was_told


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"schedule.boundaries": (50, 75)}, None),
        (
            {"schedule.boundaries": (100,)},
            "step 100 is not before the end of the run .* never falls",
        ),
        ({"schedule.boundaries": (50, 200)}, "step 200 .* falls fewer times"),
        ({"schedule.boundaries": (200,), "schedule.name": "cosine"}, None),
        ({"schedule.warmup": 50}, None),
        ({"schedule.warmup": 51}, "takes 51 of the 100 steps"),
    ],
)
def test_warnings_of_schedules(fields, words):
    warnings = schedule_warnings(override(Config(), fields), 100, 1000)
    assert bool(warnings) == bool(words)
    assert not words or re.search(words, warnings[0])
