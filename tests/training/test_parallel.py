"""One device, eight devices, jit and pmap compute the same."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from resnet_jax.config import override
from resnet_jax.errors import UserError
from resnet_jax.random_streams import run_key
from resnet_jax.training.experiment import make_experiment
from resnet_jax.training.programs import Programs

STEPS = 20
REFERENCE = []
SHARDED_REFERENCE = {}


def run(config, steps=STEPS, length=1, **overrides):
    """Losses of `steps` steps, the state after them, and an evaluation."""
    overrides = {name.replace("__", "."): value for name, value in overrides.items()}
    experiment = make_experiment(override(config, overrides))
    parallel = experiment.parallel
    programs, seeds = Programs(experiment), (experiment.config.seed,)
    state = programs.initialise(run_key(*seeds))
    if jax.config.jax_enable_x64:
        # Weights are made in float32; the comparison is in float64.
        state = jax.tree.map(lambda a: a.astype("float64") if a.dtype == "float32" else a, state)
    state, numbers = parallel.place([state]), parallel.stack([experiment.numbers])
    losses = []
    for step in range(0, steps, length):
        arguments = experiment.inputs.train(step, seeds)
        state, metrics = programs.training(length)(state, numbers, *arguments)
        losses.extend(parallel.read(metrics)[0]["loss"])
    (result,) = programs.evaluate(state, numbers)
    return np.array(losses), parallel.read(state)[0], result


@pytest.fixture
def config(small_config):
    small_config = override(
        small_config,
        {
            "model.dtype": "float64",
            "model.dropout": 0.1,
            "model.survival_probability": 0.8,
            "data.cutout": 3,
            "evaluate.batch_size": 100,
        },
    )
    return small_config


@pytest.fixture
def one_device(x64, config):
    if not REFERENCE:
        REFERENCE.append(run(config))
    return REFERENCE[0]


def assert_same(actual, expected, tolerance):
    np.testing.assert_allclose(actual[0], expected[0], rtol=tolerance)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance),
        (actual[1].params, actual[1].batch_stats, actual[1].opt_state),
        (expected[1].params, expected[1].batch_stats, expected[1].opt_state),
    )
    assert actual[2]["examples"] == expected[2]["examples"] == 360
    assert actual[2]["accuracy"] == expected[2]["accuracy"]


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_eight_devices_equal_one_over_twenty_steps(config, one_device, mode):
    eight = run(config, parallel__num_devices=8, parallel__mode=mode)
    assert_same(eight, one_device, 1e-6)


def test_float32_on_eight_devices_stays_close(small_config):
    one = run(small_config, steps=3)
    for mode in ("jit", "pmap"):
        eight = run(small_config, steps=3, parallel__num_devices=8, parallel__mode=mode)
        np.testing.assert_allclose(eight[0], one[0], rtol=1e-4)


def test_several_steps_per_call_equal_single_steps(config, one_device):
    together = run(config, length=5, train__steps_per_call=5)
    assert_same(together, one_device, 1e-6)


@pytest.mark.parametrize("mode", ["jit", pytest.param("pmap", marks=pytest.mark.slow)])
def test_accumulation_on_eight_devices_equals_one(x64, config, mode):
    fields = {"steps": 4, "train__accumulate_steps": 2}
    one = run(config, **fields)
    eight = run(config, parallel__num_devices=8, parallel__mode=mode, **fields)
    # The parts are the same examples however many devices there are.
    assert_same(eight, one, 1e-6)


@pytest.mark.parametrize(
    "fsdp",
    [
        pytest.param(2, marks=pytest.mark.slow),
        4,
        pytest.param(8, marks=pytest.mark.slow),
    ],
)
def test_a_sharded_state_gives_the_same_numbers(x64, config, fsdp):
    fields = {"train__accumulate_steps": 2, "model__remat": "block", "train__ema_decay": 0.9}
    if "sharded" not in SHARDED_REFERENCE:
        SHARDED_REFERENCE["sharded"] = run(config, steps=4, **fields)
    eight = run(config, steps=4, parallel__num_devices=8, parallel__fsdp=fsdp, **fields)
    assert_same(eight, SHARDED_REFERENCE["sharded"], 1e-6)


def test_a_state_is_sharded_along_its_largest_axis_that_divides(small_config):
    placed = make_experiment(
        override(small_config, {"parallel.num_devices": 8, "parallel.fsdp": 4})
    ).state_shapes()
    spec = lambda array: array.sharding.spec  # noqa: E731
    kernels = placed.params["stage2"]["blocks"][0]["branch"]
    assert spec(kernels["conv1"]["kernel"]) == PartitionSpec(None, None, None, "fsdp")
    assert spec(kernels["conv2"]["kernel"]) == PartitionSpec(None, None, "fsdp")
    # Too small, or no axis divides.
    assert spec(kernels["norm1"]["scale"]) == PartitionSpec()
    assert spec(placed.step) == PartitionSpec()
    momentum = jax.tree.leaves(placed.opt_state)
    kernel_bytes = sum(a.size for a in jax.tree.leaves(placed.params) if a.size >= 1024)
    assert sum(a.size for a in momentum if spec(a) != PartitionSpec()) == kernel_bytes


@pytest.mark.parametrize("mode", ["jit", pytest.param("pmap", marks=pytest.mark.slow)])
def test_streamed_batches_on_eight_devices_equal_one(x64, config, mode):
    fields = {"steps": 4, "data__placement": "stream"}
    one = run(config, **fields)
    eight = run(config, parallel__num_devices=8, parallel__mode=mode, **fields)
    assert_same(eight, one, 1e-6)


def test_statistics_per_device_differ_from_global_ones_but_replicas_agree(x64, config):
    fields = {"parallel__mode": "pmap", "parallel__num_devices": 4}
    synchronised = run(config, steps=2, **fields)
    own = run(config, steps=2, parallel__batch_statistics="per_device", **fields)
    mean = lambda result: result[1].batch_stats["stage1"]["blocks"][0]["branch"]["norm1"]["var"]  # noqa: E731
    assert not np.allclose(mean(own), mean(synchronised), rtol=1e-3)
    # The first layer's mean is linear in the images: its average over devices is the global one.
    np.testing.assert_allclose(
        run(config, steps=1, parallel__batch_statistics="per_device", **fields)[1].batch_stats[
            "stem"
        ]["norm"]["mean"],
        run(config, steps=1, **fields)[1].batch_stats["stem"]["norm"]["mean"],
        rtol=1e-9,
    )


@pytest.mark.parametrize(
    ("mode", "devices", "batch_size"),
    [
        ("jit", 3, 1),
        ("jit", 8, 7),
        ("pmap", 8, 360),
        ("jit", 3, 1000),
        *(
            pytest.param(mode, devices, batch_size, marks=pytest.mark.slow)
            for mode, devices, batch_size in (
                ("jit", 3, 7),
                ("jit", 3, 360),
                ("jit", 8, 360),
                ("jit", 8, 1000),
                ("pmap", 8, 7),
                ("pmap", 8, 1000),
            )
        ),
    ],
)
def test_evaluation_counts_every_example_once(small_config, batch_size, mode, devices):
    small_config = override(small_config, {"train.batch_size": 24})
    result = run(
        small_config, steps=0, evaluate__batch_size=batch_size,
        parallel__mode=mode, parallel__num_devices=devices,
    )[2]  # fmt: skip
    assert result["examples"] == 360


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"parallel.num_devices": 8, "train.batch_size": 12}, "multiple of the 8 devices.*8 or 16"),
        ({"parallel.num_devices": 9}, "there are 8 devices"),
        ({"parallel.mode": "pmpa"}, "did you mean 'pmap'"),
        ({"parallel.batch_statistics": "per_device"}, "set parallel.mode to 'pmap'"),
        ({"parallel.num_devices": 8, "parallel.fsdp": 3}, "must divide the 8 devices"),
        ({"parallel.mode": "pmap", "parallel.fsdp": 2}, "set parallel.mode to 'jit'"),
        ({"train.accumulate_steps": 3}, "accumulate_steps 3"),
        ({"model.num_classes": 11}, "digits has 10 classes"),
        ({"model.depth": 21}, "model.depth = 21: allowed: 6n"),
        ({"model.dtype": "float64"}, "JAX_ENABLE_X64"),
        ({"model.dtype": "int8"}, "allowed: float32"),
        ({"data.train_split": "trian"}, "digits has train, test"),
        ({"data.placement": "stream", "train.steps_per_call": 2}, "must be 1"),
        ({"data.random_resized_crop": True}, "image_size"),
    ],
)
def test_contradictions_are_found_before_anything_runs(small_config, overrides, words):
    with pytest.raises(UserError, match=words) as error:
        make_experiment(override(small_config, overrides))
    assert "\n" not in str(error.value)
