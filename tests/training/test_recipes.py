"""The ImageNet recipes: each trains, shrunk, on two devices; and their fields are the sources'."""

from operator import attrgetter
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from resnet_jax import models
from resnet_jax.config import load_config, override
from resnet_jax.random_streams import run_key
from resnet_jax.training.experiment import make_experiment
from resnet_jax.training.programs import Programs

FOLDER = Path(__file__).parents[2] / "configs" / "imagenet"
RECIPES = sorted(path.stem for path in FOLDER.glob("*.py"))
SHRUNK = {
    "model.family": "cifar",
    "model.depth": 8,
    "data.name": "synthetic",
    "data.image_size": 16,
    "data.cache_dir": None,
    "evaluate.image_size": None,
    "train.batch_size": 32,
    "train.duration": "20 steps",
    "schedule.warmup": "3 steps",
    "schedule.boundaries": (),
    "parallel.num_devices": 2,
}


def recipe(name):
    return load_config(str(FOLDER / f"{name}.py"))


@pytest.mark.parametrize("name", RECIPES)
def test_it_is_an_experiment_without_contradictions(name):
    experiment = make_experiment(override(recipe(name), SHRUNK))
    assert experiment.facts["on_device"] is False
    assert np.isfinite(experiment.numbers["learning_rates"]).all()


# Compiling takes most of the time: the recipe with the most parts stands for the others.
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in RECIPES if name != "torchvision_v2"]


@pytest.mark.parametrize("name", ["torchvision_v2", *SLOW])
def test_two_steps_are_finite_and_move_the_weights(name):
    experiment = make_experiment(override(recipe(name), SHRUNK))
    programs, parallel = Programs(experiment), experiment.parallel
    fresh = programs.initialise(run_key(0))
    before = jax.tree.map(np.asarray, fresh.params)
    state, numbers = parallel.stack([fresh]), parallel.stack([experiment.numbers])
    for step in range(2):
        arguments = experiment.inputs.train(step, (0,))
        state, metrics = programs.training(1)(state, numbers, *arguments)
        assert np.isfinite(parallel.read(metrics)[0]["loss"]).all()
    after = parallel.read(state)[0].params
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after))
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), before, after)
    assert np.mean(jax.tree.leaves(moved)) > 0.5


def test_strikes_back_recipes_differ_by_the_columns_of_the_papers_table():
    """Wightman et al. 2021, Table 2, the rows in which A1, A2 and A3 differ."""
    rows = {
        "train.duration": ("600 epochs", "300 epochs", "100 epochs"),
        "data.image_size": (224, 224, 160),
        "evaluate.image_size": (None, None, 224),
        "optimizer.learning_rate": (5e-3, 5e-3, 8e-3),
        "optimizer.weight_decay": (0.01, 0.02, 0.02),
        "train.label_smoothing": (0.1, 0.0, 0.0),
        "model.survival_probability": (0.95, 0.95, 1.0),
        "data.repeats": (3, 3, 1),
        "data.rand_augment_magnitude": (7.0, 7.0, 6.0),
        "train.mixup": (0.2, 0.1, 0.1),
        "train.cutmix": (1.0, 1.0, 1.0),
        "train.batch_size": (2048, 2048, 2048),
    }
    columns = [recipe(f"strikes_back_{column}") for column in ("a1", "a2", "a3")]
    for field, values in rows.items():
        assert tuple(map(attrgetter(field), columns)) == values, field


def test_drop_path_falls_linearly_and_scales_in_training():
    """Rate 0.05 in the last of ResNet-50's sixteen blocks; kept branches are divided by 1 - rate."""
    fields = recipe("strikes_back_a1").model
    model = nnx.eval_shape(
        lambda: models.create(
            "resnet50",
            survival_probability=fields.survival_probability,
            stochastic_depth_scaling=fields.stochastic_depth_scaling,
            rngs=nnx.Rngs(0),
        )
    )
    blocks = [block for i in (1, 2, 3, 4) for block in getattr(model, f"stage{i}").blocks]
    rates = [1 - block.drop_path.survival_probability for block in blocks]
    np.testing.assert_allclose(rates, 0.05 * np.arange(1, 17) / 16)
    branch = np.ones((4000, 2), np.float32)
    kept = np.asarray(blocks[-1].drop_path(branch, jax.random.key(0)))
    assert set(np.unique(kept)) == {np.float32(0), np.float32(1 / np.float32(0.95))}
    assert np.all(kept[:, 0] == kept[:, 1])
    assert abs((kept == 0).mean() - 0.05) < 5 * np.sqrt(0.05 * 0.95 / len(kept))


def test_the_fast_recipe_is_whole_calls_from_the_device():
    """Seconds count there: no step of its own beside the compiled loop, one evaluation."""
    config = load_config(str(FOLDER.parent / "cifar10_fast.py"))
    experiment = make_experiment(override(config, {"data.name": "synthetic"}))
    length = config.train.steps_per_call
    every = experiment.log_every, experiment.evaluate_every, experiment.checkpoint_every
    assert not any(steps % length for steps in (experiment.total_steps, *every))
    assert experiment.evaluate_every == experiment.checkpoint_every == experiment.total_steps
    assert experiment.facts["on_device"]
    rates = experiment.numbers["learning_rates"]
    assert rates[0] == 0
    assert np.argmax(rates) == experiment.total_steps // 5
    np.testing.assert_allclose([rates.max(), rates[-1]], [0.4, 0], atol=1e-5)
