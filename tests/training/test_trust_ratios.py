"""LARS and LAMB over several steps against numpy, layer by layer."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from resnet_jax.config import Config, override
from resnet_jax.models import stack_blocks
from resnet_jax.training.hyperparameters import hyperparameters
from resnet_jax.training.optimizer import make_optimizer, make_schedule

STEPS, RATE, DECAY, MOMENTUM, B2, EPSILON, TRUST = 5, 0.05, 0.03, 0.85, 0.97, 1e-6, 0.02


def random_layer(rng, size):
    return {
        "conv": {"kernel": size * rng.standard_normal((3, 3, 2, 4))},
        "norm": {"scale": 1 + 0.1 * rng.standard_normal(4), "bias": size * rng.standard_normal(4)},
    }


def random_trees():
    """Weights, and the gradient of each step; three blocks of very different sizes."""
    rng = np.random.default_rng(0)
    trees = [{i: random_layer(rng, size) for i, size in enumerate((1.0, 0.1, 30.0))}]
    trees += [{i: random_layer(rng, 0.3) for i in range(3)} for _ in range(STEPS)]
    trees[0][1]["conv"]["kernel"] *= 0  # A layer of zeros has no ratio.
    return trees[0], trees[1:]


def ours(name, params, gradients, stacked, decay_all):
    values = {
        "name": name, "learning_rate": RATE, "weight_decay": DECAY, "momentum": MOMENTUM, "b2": B2,
        "epsilon": EPSILON, "trust_coefficient": TRUST, "decay_norm_and_bias": decay_all,
    }  # fmt: skip
    fields = {f"optimizer.{field}": value for field, value in values.items()}
    config = override(Config(), {"schedule.name": "constant"} | fields)
    numbers = hyperparameters(config, make_schedule(config, 100, 1000), 100)
    optimizer = make_optimizer(config)(numbers)

    def tree(blocks):
        arrays = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), blocks)
        return stack_blocks({"stage1": {"blocks": arrays}}) if stacked else arrays

    params, gradients = tree(params), [tree(gradient) for gradient in gradients]
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    for gradient in gradients:
        updates, state = update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


def ratio(w, update):
    norms = np.linalg.norm(w), np.linalg.norm(update)
    return norms[0] / norms[1] if all(norms) else 1.0


def lars(w, gradients, decays, adapts):
    velocity = 0.0
    for g in gradients:
        update = g + DECAY * w if decays else g
        if adapts:
            # The coefficient belongs to the ratio; without one the rate is as it is.
            update = update * (TRUST * ratio(w, update) if np.any(w) else 1.0)
        velocity = MOMENTUM * velocity + RATE * update
        w = w - velocity
    return w


def lamb(w, gradients, decays, adapts):
    m = v = 0.0
    for t, g in enumerate(gradients, 1):
        m, v = MOMENTUM * m + (1 - MOMENTUM) * g, B2 * v + (1 - B2) * g**2
        update = (m / (1 - MOMENTUM**t)) / (np.sqrt(v / (1 - B2**t)) + EPSILON)
        update = update + DECAY * w if decays else update
        w = w - RATE * (ratio(w, update) if adapts else 1.0) * update
    return w


@pytest.mark.parametrize("decay_all", [False, True])
@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("reference", [lars, lamb])
def test_trust_ratio_of_each_layer_over_several_steps(reference, stacked, decay_all):
    params, gradients = random_trees()
    name = reference.__name__

    def by_numpy(path, w, *g):
        kernel = path[-1].key == "kernel"
        # LARS never adapts norms and biases; LAMB where they do not decay.
        adapts = kernel or (decay_all and name == "lamb")
        return reference(w, g, decay_all or kernel, adapts)

    expected = jax.tree_util.tree_map_with_path(by_numpy, params, *gradients)
    if stacked:
        expected = stack_blocks({"stage1": {"blocks": jax.tree.map(jnp.asarray, expected)}})
    actual = ours(name, params, gradients, stacked, decay_all)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), actual, expected
    )
