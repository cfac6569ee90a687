"""Checkpoints: the same bits back, on any devices; which are kept."""

import jax
import numpy as np
import pytest

from resnet_jax.config_file import override
from resnet_jax.errors import UserError
from resnet_jax.random_streams import run_key
from resnet_jax.training.checkpoint import Checkpoints
from resnet_jax.training.experiment import make_experiment
from resnet_jax.training.programs import Programs


def experiment_of(config, **fields):
    fields = {name.replace("__", "."): value for name, value in fields.items()}
    return make_experiment(override(config, {"train.ema_decay": 0.5, **fields}))


def fresh(experiment):
    return Programs(experiment).initialise(run_key(0))


def assert_equal(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lars", "lamb"])
def test_a_saved_state_comes_back_bit_by_bit(small_config, tmp_path, optimizer):
    experiment = experiment_of(small_config, optimizer__name=optimizer)
    state = fresh(experiment)
    with Checkpoints(tmp_path, {}) as checkpoints:
        checkpoints.save(3, state, {"totals": {"loss": 0.1}})
        checkpoints.wait()
        restored, meta = checkpoints.restore(3, experiment.state_shapes())
    assert_equal(restored, state)
    assert meta == {"totals": {"loss": 0.1}}


@pytest.mark.parametrize("saved_as", ["jit", "pmap"])
@pytest.mark.parametrize("restored_as", ["jit", "pmap"])
def test_saved_on_eight_devices_restored_on_others(small_config, tmp_path, saved_as, restored_as):
    eight = experiment_of(small_config, parallel__mode=saved_as, parallel__num_devices=8)
    placed = eight.parallel.place([fresh(eight)])
    with Checkpoints(tmp_path, {}) as checkpoints:
        checkpoints.save(1, eight.parallel.take(placed), {})
        checkpoints.wait()
        for devices in (1, 2, 8):
            other = experiment_of(
                small_config, parallel__mode=restored_as, parallel__num_devices=devices
            )
            state, _ = checkpoints.restore(1, other.state_shapes())
            assert_equal(other.parallel.take(other.parallel.place([state])), fresh(eight))


def test_the_newest_and_the_best_are_kept(small_config, tmp_path):
    state = fresh(experiment_of(small_config))
    accuracies = {1: 0.5, 2: 0.9, 3: None, 4: 0.7, 5: None, 6: 0.6}
    evaluations = {}
    with Checkpoints(tmp_path, evaluations, keep_last=2, keep_best=1) as checkpoints:
        assert (checkpoints.latest(), checkpoints.best()) == (None, None)
        for step, accuracy in accuracies.items():
            if accuracy is not None:
                evaluations[step] = {"accuracy": accuracy}
            checkpoints.save(step, state, {})
            checkpoints.wait()
        assert checkpoints.steps() == [2, 5, 6]
        assert (checkpoints.latest(), checkpoints.best()) == (6, 2)
    with Checkpoints(tmp_path, evaluations, read_only=True) as reopened:
        assert (reopened.latest(), reopened.best()) == (6, 2)


def test_checkpoint_of_another_model_or_optimiser_is_refused(small_config, tmp_path):
    with Checkpoints(tmp_path, {}) as checkpoints:
        checkpoints.save(1, fresh(experiment_of(small_config)), {})
        checkpoints.wait()
        for fields in (
            {"model__depth": 14},
            {"optimizer__name": "adamw"},
            {"model__shortcut": "C"},
        ):
            other = experiment_of(small_config, **fields)
            with pytest.raises(UserError, match="is of another model or optimiser"):
                checkpoints.restore(1, other.state_shapes())
        with pytest.raises(UserError, match="has 1$"):
            checkpoints.restore(2, experiment_of(small_config).state_shapes())
