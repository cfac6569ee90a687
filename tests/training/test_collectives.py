"""The compiled train step talks between devices as often as the network needs, and no more.

The expected numbers are counted from the network by hand. XLA's CPU backend merges the gradients of
all layers into a few all-reduces; a statistic of one layer needs one before the next layer goes on.
"""

import math
import re

from resnet_jax.config import override
from resnet_jax.random_streams import run_key
from resnet_jax.training.experiment import make_experiment
from resnet_jax.training.programs import Programs

BYTES = {"f32": 4, "s32": 4, "u32": 4, "pred": 1, "u8": 1}
COLLECTIVE = re.compile(
    r"= (.*?) (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
)
# ResNet-8 on digits: the first convolution and norm, and six more of each.
CHANNELS = [16, 16, 16, 32, 32, 64, 64]
STEM = 9 * 1 * 16
LARGE = [9 * i * o for i, o in [(16, 16), (16, 16), (16, 32), (32, 32), (32, 64), (64, 64)]]
BY_FILTERS = [9 * 16 * 32, 9 * 32 * 64]
CLASSIFIER = 64 * 10 + 10
GRADIENT = 4 * (STEM + sum(LARGE) + CLASSIFIER + 2 * sum(CHANNELS))
# Two numbers a channel: sum and sum of squares, or what the backward pass needs of each norm.
STATISTICS = 4 * 2 * sum(CHANNELS)
# Before them one number a channel, about which the squares are summed.
SHIFTS = 4 * sum(CHANNELS)


def collectives(config, **fields):
    """Kind → size in bytes of each collective in the optimised step on eight devices."""
    fields = {name.replace("__", "."): value for name, value in fields.items()}
    experiment = make_experiment(override(config, {"parallel.num_devices": 8, **fields}))
    parallel, programs = experiment.parallel, Programs(experiment)
    state = parallel.place([programs.initialise(run_key(0))])
    numbers = parallel.stack([experiment.numbers])
    own, shared = experiment.inputs.train(0, (0,))
    text = programs.training(1).lower(state, numbers, own, shared).compile().as_text()
    found: dict[str, list[int]] = {}
    for shapes, kind in COLLECTIVE.findall(text):
        arrays = re.findall(r"(\w+)\[([\d,]*)\]", re.sub(r"/\*.*?\*/", "", shapes))
        sizes = [BYTES[t] * math.prod(int(n) for n in dims.split(",") if n) for t, dims in arrays]
        found.setdefault(kind, []).append(sum(sizes))
    assert experiment.parameters * 4 == GRADIENT
    return found


def test_under_jit_statistics_and_gradients_are_reduced_once(small_config):
    found = collectives(small_config)
    assert set(found) == {"all-reduce"}
    # Both sums that XLA takes in the backward pass of a norm are gradients. The loss and the number
    # of correct answers are four bytes each; the count is known without any talk.
    assert sum(found["all-reduce"]) == GRADIENT + SHIFTS + STATISTICS + 8
    # Two forward and one backward of each norm, the count of correct answers, two merged ones of
    # gradients.
    assert len(found["all-reduce"]) <= 3 * len(CHANNELS) + 3


def test_under_pmap_running_statistics_are_averaged_too(small_config):
    found = collectives(small_config, parallel__mode="pmap")
    assert set(found) == {"all-reduce"}
    assert sum(found["all-reduce"]) == GRADIENT + SHIFTS + 3 * STATISTICS + 3 * 4
    assert len(found["all-reduce"]) <= 3 * len(CHANNELS) + 3


def test_statistics_per_device_need_no_talk_before_the_end_of_a_step(small_config):
    fields = {"parallel__mode": "pmap", "parallel__batch_statistics": "per_device"}
    found = collectives(small_config, **fields)
    assert set(found) == {"all-reduce"}
    assert sum(found["all-reduce"]) == GRADIENT + STATISTICS + 3 * 4
    assert len(found["all-reduce"]) <= 3


def test_sharded_weights_are_gathered_once_and_images_never(small_config):
    found = collectives(small_config, parallel__fsdp=4)
    # A CPU has no reduce-scatter: there it is an all-reduce, of which a device keeps its part.
    assert set(found) == {"all-reduce", "all-gather"}
    assert sorted(found["all-gather"]) == sorted(4 * size for size in LARGE)
    # The gradient of a kernel that is sharded by its filters is reduced over the devices of the
    # shards, then a quarter of it over the others; all else over all devices at once.
    expected = GRADIENT + sum(BY_FILTERS) + SHIFTS + STATISTICS + 8
    assert sum(found["all-reduce"]) == expected
    assert len(found["all-reduce"]) <= 3 * len(CHANNELS) + 5
