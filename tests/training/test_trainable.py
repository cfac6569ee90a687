"""What can be evaluated but not trained, and what a run logs of its training."""

import io
import math

import pytest
from rich.console import Console

from resnet_jax.config import override
from resnet_jax.errors import UserError
from resnet_jax.sweeps.plan import check
from resnet_jax.training.experiment import make_experiment
from resnet_jax.training.loop import train
from resnet_jax.training.progress import Reporter, result_rows
from resnet_jax.training.run_directory import RunDirectory

# On the 8×8 digits: ResNet-18 of ImageNet ends with one pixel, ResNet-8 of CIFAR with four.
ONE_PIXEL = {"model.family": "imagenet", "model.depth": 18}
PER_DEVICE = {"parallel.mode": "pmap", "parallel.batch_statistics": "per_device"}


@pytest.mark.parametrize(
    ("fields", "refused"),
    [
        ({"train.batch_size": 1}, "train.batch_size"),
        ({"train.batch_size": 8, "train.accumulate_steps": 8}, "train.accumulate_steps"),
        ({"train.batch_size": 8, "parallel.num_devices": 8} | PER_DEVICE, "parallel.batch_stat"),
        (
            {"train.batch_size": 1, "model.block": "bottleneck", "model.depth": 50},
            "train.batch_size",
        ),
        ({"train.batch_size": 1, "model.stem": "patchify"}, "train.batch_size"),
        ({"train.batch_size": 2}, None),
        ({"train.batch_size": 16, "parallel.num_devices": 8} | PER_DEVICE, None),
        ({"train.batch_size": 8, "parallel.num_devices": 8, "parallel.mode": "pmap"}, None),
        ({"train.batch_size": 1, "model.norm": "frozen_batch"}, None),
        ({"train.batch_size": 1, "model.norm": "layer"}, None),
        ({"train.batch_size": 1, "model.family": "cifar", "model.depth": 8}, None),
    ],
)
def test_a_batch_norm_over_one_value_is_refused(small_config, fields, refused):
    experiment = make_experiment(override(small_config, ONE_PIXEL | fields))
    if refused is None:
        experiment.check_training()
        return
    with pytest.raises(UserError, match=refused) as told:
        experiment.check_training()
    assert "images of 8×8 leave one pixel" in str(told.value)


def test_groups_of_one_value_are_refused(small_config):
    fields = {"model.norm": "group", "model.norm_groups": 64}
    make_experiment(override(small_config, ONE_PIXEL | fields))
    # 64 channels of one pixel.
    fields["evaluate.scales"] = (4,)
    with pytest.raises(UserError, match="model.norm_groups = 64: leaves groups of one value"):
        make_experiment(override(small_config, ONE_PIXEL | fields))
    make_experiment(override(small_config, ONE_PIXEL | {"model.norm": "group"}))


def test_float16_can_be_evaluated_and_not_trained(small_config):
    config = override(small_config, {"model.dtype": "float16"})
    experiment = make_experiment(config)
    with pytest.raises(UserError, match="model.dtype = 'float16': is not for training"):
        experiment.check_training()
    plan = check([("half", config.to_dict()), ("whole", small_config.to_dict())])
    assert list(plan.facts) == ["whole"]
    assert "use bfloat16" in str(plan.errors["half"])


def test_lines_say_what_was_used(small_config, tmp_path):
    small_config = override(
        small_config,
        {
            "schedule.name": "cosine",
            "train.ema_decay": 0.9,
        },
    )
    run = RunDirectory(tmp_path / "run")
    run.create(small_config.to_dict())
    reporter = Reporter(Console(file=io.StringIO()))
    assert train([make_experiment(small_config)], [run], reporter) == 0
    lines = list(run.read_metrics())
    rates = {line["step"]: line["learning_rate"] for line in lines if line["event"] == "train"}
    peak = small_config.optimizer.learning_rate
    # Of the last step before the line: steps count from 0 in the schedule.
    used = {s: peak * (1 + math.cos(math.pi * (s - 1) / 20)) / 2 for s in (5, 10, 15, 20)}
    assert rates == pytest.approx(used, rel=1e-5)
    assert [line["weights"] for line in lines if line["event"] == "eval"] == ["averaged"] * 2
    # The speed is not known before the second call has ended.
    speeds = [line.get("images_per_second") for line in lines if line["event"] == "train"]
    assert all(speed is None or speed > 0 for speed in speeds)
    status = run.read_status()
    assert status["result"]["weights"] == "averaged"
    assert "averaged weights" in result_rows(status)["accuracy"]
