"""The step functions against their equations."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from resnet_jax import models
from resnet_jax.training.hyperparameters import Hyperparameters
from resnet_jax.training.state import initial_state, make_network
from resnet_jax.training.steps import StepOptions, cross_entropy, eval_step, train_step

NUMBERS = Hyperparameters()


@pytest.fixture(scope="module")
def network():
    return make_network(lambda rngs: models.create("cifar_resnet8", in_channels=1, rngs=rngs))


def batch_of(size, seed=0):
    images = jax.random.normal(jax.random.key(seed), (size, 8, 8, 1))
    labels = jax.random.randint(jax.random.key(seed + 1), (size,), 0, 10)
    keys = jax.random.split(jax.random.key(seed + 2), size)
    return {"image": images, "label": labels, "mask": jnp.ones(size, bool), "key": keys}


def test_label_smoothing_is_cross_entropy_with_the_smoothed_target():
    logits = jax.random.normal(jax.random.key(0), (5, 10))
    labels = jnp.arange(5)
    target = 0.9 * np.eye(10)[labels] + 0.1 / 10
    expected = -(target * jax.nn.log_softmax(logits)).sum(-1)
    np.testing.assert_allclose(cross_entropy(logits, labels, 0.1), expected, rtol=1e-5)
    np.testing.assert_allclose(
        cross_entropy(logits, labels), -jax.nn.log_softmax(logits)[jnp.arange(5), labels], rtol=1e-5
    )


def test_accumulated_gradient_is_the_mean_over_the_parts(network):
    rate = 0.1
    optimizer = optax.sgd(rate)
    state = initial_state(network, optimizer, 0, False)
    whole = batch_of(8)

    def step(state, batch, options):
        static = NUMBERS, network, lambda numbers: optimizer, options
        return jax.jit(lambda s, b: train_step(s, b, *static))(state, batch)

    accumulated, metrics = step(state, whole, StepOptions(accumulate_steps=2))
    parts = [jax.tree.map(lambda a, i=i: a[i::2], whole) for i in range(2)]
    alone = [step(state, part, StepOptions()) for part in parts]
    jax.tree.map(
        lambda a, b, c: np.testing.assert_allclose(a, (b + c) / 2, atol=2e-5),
        accumulated.params,
        *(new.params for new, _ in alone),
    )
    assert int(metrics["count"]) == 8
    assert metrics["loss"] == pytest.approx(sum(float(m["loss"]) for _, m in alone), rel=1e-5)
    # Running statistics pass through the parts in turn.
    second, _ = step(alone[0][0], parts[1], StepOptions())
    np.testing.assert_allclose(
        accumulated.batch_stats["stem"]["norm"]["mean"],
        second.batch_stats["stem"]["norm"]["mean"],
        atol=1e-2,
    )


def test_ema_is_the_weighted_mean_of_the_steps(network):
    optimizer = optax.sgd(0.1)
    state = initial_state(network, optimizer, 0, with_ema=True)
    numbers = Hyperparameters(scalars={"train.ema_decay": 0.9})
    static = numbers, network, lambda numbers: optimizer, StepOptions()
    step = jax.jit(lambda s, b: train_step(s, b, *static))
    expected = np.asarray(state.params["head"]["kernel"], np.float64)
    for seed in range(3):
        state, _ = step(state, batch_of(4, seed))
        expected = 0.9 * expected + 0.1 * np.asarray(state.params["head"]["kernel"], np.float64)
    np.testing.assert_allclose(
        state.ema["params"]["head"]["kernel"], expected, rtol=1e-5, atol=1e-6
    )
    assert state.evaluated() is state.ema
    assert int(state.step) == 3


def test_evaluation_counts_only_what_the_mask_shows(network):
    state = initial_state(network, optax.sgd(0.1), 0, False)
    batch = batch_of(8)
    step = jax.jit(lambda w, b: eval_step(w, b, network))
    shown = step(state.evaluated(), {**batch, "mask": jnp.arange(8) < 5})
    first = jax.tree.map(lambda a: a[:5], batch)
    alone = step(state.evaluated(), first)
    assert int(shown["count"]) == 5
    assert int(shown["correct"]) == int(alone["correct"])
    assert shown["loss"] == pytest.approx(float(alone["loss"]), rel=1e-5)
