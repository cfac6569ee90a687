"""How evaluation reads images, and how long training waits for them."""

import time

import numpy as np
import pytest

from resnet_jax.config import override
from resnet_jax.data.images import Geometry
from resnet_jax.data.preprocessing import make_preprocessing
from resnet_jax.data.stream import HostStream
from resnet_jax.data.streaming import Streaming
from resnet_jax.errors import UserError
from resnet_jax.training.experiment import make_experiment
from resnet_jax.training.parallel import make_parallel
from resnet_jax.training.preparation import evaluated_image


@pytest.mark.parametrize(
    ("fields", "size", "fraction", "views"),
    [
        ({}, 64, 0.8, [64]),
        ({"evaluate.image_size": 80}, 80, 0.8, [80]),
        ({"evaluate.crop_fraction": 1.0}, 64, 1.0, [64]),
        ({"evaluate.scales": (48, 96)}, 96, 0.8, [48, 96]),
        ({"evaluate.scales": (48, 96), "evaluate.image_size": 72}, 72, 0.8, [48, 96]),
        ({"evaluate.scales": (5,), "data.image_size": None}, None, 0.8, [5]),
        ({"evaluate.crops": 10}, 80, 1.0, [64] * 10),
        ({"evaluate.crops": 10, "evaluate.image_size": 40}, 50, 1.0, [40] * 10),
    ],
)
def test_geometry_of_evaluation(small_config, fields, size, fraction, views):
    """What is read, and the sides of the views over which logits are averaged."""
    base = {"data.image_size": 64, "data.crop_fraction": 0.8}
    image = evaluated_image(override(small_config, base | fields), "bicubic")
    assert image.geometry == Geometry(size, fraction, "bicubic")
    side = size or 8
    found = image.views(np.zeros((2, side, side, 3), np.float32))
    assert [view.shape for view in found] == [(2, view, view, 3) for view in views]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"evaluate.scales": (8, 12), "evaluate.image_size": 8},
            "does not go with evaluate.scales",
        ),
        ({}, "evaluate.image_size = None: evaluate.crops needs it"),
        (
            {"evaluate.image_size": 8},
            "evaluate.crop_fraction = 1.0: leaves evaluate.crops one place",
        ),
    ],
)
def test_ten_crops_are_refused_where_they_make_no_sense(small_config, fields, words):
    with pytest.raises(UserError, match=words):
        make_experiment(override(small_config, {"evaluate.crops": 10} | fields))


class Slow:
    """Eight grey images that take long to read, one after the other."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        time.sleep(0.02)
        return np.full((2, 2, 1), index, np.uint8), index


def test_the_wait_for_input_is_what_the_host_took_longer(small_config):
    """A batch takes 80 ms to read; a loop that takes 200 ms a step does not wait, an idle one does."""
    parallel = make_parallel("jit", "global", 1)
    data = HostStream(Slow(), Geometry(None), batch_size=4, num_threads=1)
    preprocessing = make_preprocessing(small_config, (0.5,), (0.5,))
    reading = {"eval_batch_size": 4, "eval_geometry": Geometry(None)}
    inputs = Streaming(data, Slow(), preprocessing, parallel, **reading)
    assert inputs.take_wait() == {}
    inputs.train_arguments(0, 3)
    assert inputs.take_wait() == {}
    inputs.close()
    for step in range(20):
        (batch, _) = inputs.train_arguments(step, 3)
        expected = data.host_batch(step, 3) if step in (0, 19) else None
        if expected:
            np.testing.assert_array_equal(batch["image"], expected["image"])
            np.testing.assert_array_equal(batch["label"], expected["label"])
    assert inputs.take_wait()["input_wait"] > 0.03
    for step in range(20, 23):
        time.sleep(0.3)
        inputs.train_arguments(step, 3)
    assert inputs.take_wait()["input_wait"] < 0.03
    # A step that is not the next one begins anew.
    (batch, _) = inputs.train_arguments(5, 3)
    np.testing.assert_array_equal(batch["label"], data.host_batch(5, 3)["label"])
    inputs.close()
