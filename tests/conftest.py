"""Eight simulated CPU devices for every test, and a cache of the test session's own."""

import os
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
)
os.environ.setdefault("RESNET_JAX_CACHE", tempfile.mkdtemp(prefix="resnet_jax_cache_"))

import jax
import pytest
from hypothesis import settings

from resnet_jax.config import default_config

# Compilation makes the first example slow; examples are the same in every run.
settings.register_profile("ci", deadline=None, derandomize=True, max_examples=20)
settings.load_profile("ci")


@pytest.fixture
def x64():
    """Double precision: deep float32 nets diverge between equal programs."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def small_config():
    """A run of a ResNet-8 on digits, twenty steps of 16 images, on one device."""
    config = default_config()
    config.model.depth = 8
    config.data.pad = 1
    config.train.duration = "20 steps"
    config.train.batch_size = 16
    config.schedule.name = "constant"
    config.evaluate.every = "10 steps"
    config.checkpoint.every = "10 steps"
    config.log.every = "5 steps"
    config.parallel.num_devices = 1
    return config
