"""With every augmentation on, a batch is the same on any number of devices, and nothing is exchanged."""

import jax
import numpy as np
import pytest

from resnet_jax.config import override
from resnet_jax.errors import UserError
from resnet_jax.training.experiment import make_experiment
from resnet_jax.training.hyperparameters import key_of

EVERYTHING = {
    "data.brightness": 0.4,
    "data.contrast": 0.4,
    "data.policy": "rand_augment",
    "data.rand_augment_deviation": 0.5,
    "data.flip": True,
    "data.erase": 0.5,
    "data.erase_fill": "noise",
    "train.mixup": 0.2,
    "train.cutmix": 1.0,
}
STEP, SEED = 3, 5


def batch_of(config, devices, mode):
    """The batch of a step as NumPy arrays, and the text of the program that made it."""
    overrides = EVERYTHING | {"parallel.num_devices": devices, "parallel.mode": mode, "seed": SEED}
    experiment = make_experiment(override(config, overrides))
    own, shared = experiment.inputs.train(STEP, (SEED,))

    def batch(own, shared):
        numbers = {"key": experiment.numbers["key"]}
        made = experiment.inputs.train_batch(np.int32(STEP), key_of(numbers), own, shared)
        return {name: made[name] for name in ("image", "label", "other_label", "weight")}

    if mode == "pmap":
        made = jax.pmap(batch, "data", devices=jax.devices()[:devices])(own, shared)
        return jax.tree.map(lambda a: np.asarray(a).reshape(-1, *a.shape[2:]), made), ""
    compiled = jax.jit(batch).lower(own, shared).compile()
    return jax.tree.map(np.asarray, compiled(own, shared)), compiled.as_text()


@pytest.mark.parametrize("mode", ["jit", pytest.param("pmap", marks=pytest.mark.slow)])
def test_a_batch_is_the_same_on_any_number_of_devices(small_config, mode):
    one, _ = batch_of(small_config, 1, "jit")
    assert len(set(one["weight"])) > 8
    np.testing.assert_array_equal(one["other_label"], one["label"].reshape(-1, 2)[:, ::-1].ravel())
    several, program = batch_of(small_config, 4, mode)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), several, one)
    for collective in ("all-gather", "all-reduce", "all-to-all", "collective-permute"):
        assert collective not in program


def test_an_odd_share_is_one_clear_line(small_config):
    overrides = {"train.mixup": 0.2, "parallel.num_devices": 4, "train.batch_size": 20}
    with pytest.raises(UserError, match=r"4 devices, and each device's share one of 2.*16 or 24"):
        make_experiment(override(small_config, overrides))
