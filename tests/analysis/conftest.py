"""A small trained run that the instruments are tried on."""

import pytest

from resnet_jax import cli


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
    """Directory of a ResNet-14 on digits, ten steps; checkpoints at 5 and 10."""
    return _train(tmp_path_factory, "residual", "A")


@pytest.fixture(scope="session")
def small_plain_run(tmp_path_factory):
    """The same without shortcuts."""
    return _train(tmp_path_factory, "plain", "none")


def _train(tmp_path_factory, name, shortcut):
    workdir = tmp_path_factory.mktemp("runs") / name
    fields = {
        "model.depth": 14,
        "model.shortcut": shortcut,
        "train.duration": "10 steps",
        "schedule.warmup": "2 steps",
        "train.batch_size": 16,
        "evaluate.every": "10 steps",
        "checkpoint.every": "5 steps",
        "parallel.num_devices": 1,
    }
    overrides = [f"--config.{field}={value}" for field, value in fields.items()]
    command = ["train", "--config=configs/digits.py", f"--workdir={workdir}", *overrides]
    assert cli.main(command) == 0
    return workdir
