"""A small trained run that the instruments are tried on."""

import pytest

from resnet_jax import cli


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
    """Directory of a ResNet-14 on digits, forty steps; checkpoints at 20 and 40."""
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
        "train.duration": "40 steps",
        "schedule.warmup": "10 steps",
        "train.batch_size": 32,
        "evaluate.every": "20 steps",
        "checkpoint.every": "20 steps",
        "parallel.num_devices": 1,
    }
    overrides = [f"--config.{field}={value}" for field, value in fields.items()]
    command = ["train", "--config=configs/digits.py", f"--workdir={workdir}", *overrides]
    assert cli.main(command) == 0
    return workdir
