"""What is an argument of the programs, and which runs share them."""

import jax
import numpy as np
import optax
import pytest

from resnet_jax.config import override
from resnet_jax.random_streams import run_key
from resnet_jax.training.hyperparameters import Hyperparameters, hyperparameters, program_key

RATES = optax.linear_schedule(0.0, 0.4, 4)


def test_a_name_that_is_no_traced_field_is_an_error_and_not_absent():
    numbers = Hyperparameters(scalars={"train.ema_decay": 0.9})
    assert numbers.get("train.ema_decay") == 0.9
    assert numbers.get("optimizer.momentum", 0.5) == 0.5
    for name in ("train.emadecay", "train.batch_size"):
        with pytest.raises(KeyError, match=name):
            numbers.get(name)


def test_they_are_what_the_config_says(small_config):
    config = override(small_config, {"seed": 7, "train.label_smoothing": 0.1})
    numbers = hyperparameters(config, RATES, 5)
    np.testing.assert_array_equal(jax.random.key_data(numbers.key), jax.random.key_data(run_key(7)))
    np.testing.assert_allclose(numbers.learning_rates, [0, 0.1, 0.2, 0.3, 0.4], rtol=1e-6)
    assert numbers.learning_rate(3) == numbers.learning_rates[3]
    assert numbers["train.label_smoothing"] == np.float32(0.1)
    assert numbers.get("train.ema_decay") is None


@pytest.mark.parametrize(
    ("fields", "shared"),
    [
        ({"seed": 5, "optimizer.learning_rate": 0.5, "schedule.warmup": "3 steps"}, True),
        ({"optimizer.weight_decay": 0.0, "optimizer.momentum": 0.5}, True),
        ({"optimizer.momentum": 0.0}, False),
        ({"train.label_smoothing": 0.1}, False),
        ({"train.batch_size": 8}, False),
        ({"optimizer.nesterov": True}, False),
    ],
)
def test_runs_share_programs_where_only_numbers_differ(small_config, fields, shared):
    # Both in canonical spelling.
    configs = override(small_config, {}), override(small_config, fields)
    assert (program_key(configs[0]) == program_key(configs[1])) == shared
    one, two = (jax.tree.structure(hyperparameters(config, RATES, 5)) for config in configs)
    assert one == two or not shared
