"""Eight simulated CPU devices for every test, a cache and a key of the session's own, and shared fixtures."""

import gzip
import os
import signal
import tempfile

from resnet_jax.compiler import turn_off_ynnpack

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
)
turn_off_ynnpack()
os.environ.setdefault("RESNET_JAX_CACHE", tempfile.mkdtemp(prefix="resnet_jax_cache_"))
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="resnet_jax_state_")

import jax
import numpy as np
import pytest
from hypothesis import settings

from resnet_jax.config import Config, override

# Compilation makes the first example slow; examples are the same in every run.
settings.register_profile("ci", deadline=None, derandomize=True, max_examples=20)
settings.load_profile("ci")

# A shell without job control starts what ends in `&` with the first two ignored, `nohup` with the third,
# and processes inherit that.
for key, handler in {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGQUIT: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
}.items():
    if signal.getsignal(key) == signal.SIG_IGN:
        signal.signal(key, handler)


@pytest.fixture
def x64():
    """Double precision: deep float32 nets diverge between equal programs."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def small_config():
    """A run of a ResNet-8 on digits, twenty steps of 16 images, on one device."""
    return override(
        Config(),
        {
            "model.depth": 8,
            "data.pad": 1,
            "train.duration": "20 steps",
            "train.batch_size": 16,
            "schedule.name": "constant",
            "evaluate.every": "10 steps",
            "checkpoint.every": "10 steps",
            "log.every": "5 steps",
            "parallel.num_devices": 1,
        },
    )


@pytest.fixture(scope="session")
def write_idx():
    """A function that writes a gzipped IDX file."""

    def write(path, array, magic=None):
        array = np.asarray(array, np.uint8)
        magic = 0x0800 + array.ndim if magic is None else magic
        header = np.array([magic, *array.shape], ">i4").tobytes()
        path.write_bytes(gzip.compress(header + array.tobytes()))

    return write


@pytest.fixture(scope="session")
def write_fashion_mnist(write_idx):
    """A function that writes the four files of Fashion-MNIST."""

    def write(directory, arrays):
        directory.mkdir(parents=True, exist_ok=True)
        for prefix, split in (("train", "train"), ("t10k", "test")):
            images, labels = arrays[split]
            write_idx(directory / f"{prefix}-images-idx3-ubyte.gz", images)
            write_idx(directory / f"{prefix}-labels-idx1-ubyte.gz", labels)
        return directory

    return write


@pytest.fixture(scope="session")
def fashion_arrays():
    """Split → (images, labels) of a Fashion-MNIST of 24 and 11 random images."""
    rng = np.random.default_rng(7)
    return {
        split: (rng.integers(0, 256, (count, 28, 28), np.uint8), rng.integers(0, 10, count))
        for split, count in (("train", 24), ("test", 11))
    }
