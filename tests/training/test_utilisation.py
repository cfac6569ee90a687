"""Model FLOPs utilisation from numbers that others published."""

import pytest

from resnet_jax.config import override
from resnet_jax.training.utilisation import peak_of, speed_of


@pytest.mark.parametrize(
    ("kind", "dtype", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", "bfloat16", 989e12),
        ("NVIDIA H100 PCIe", "bfloat16", 756e12),
        ("NVIDIA A100-SXM4-40GB", "float32", 156e12),
        ("NVIDIA L40S", "bfloat16", 362e12),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "bfloat16", None),
        ("TPU v5 lite", "bfloat16", 197e12),
        ("TPU v5", "bfloat16", 459e12),
        ("cpu", "float32", None),
        ("NVIDIA H100 80GB HBM3", "float64", None),
    ],
)
def test_the_peak_is_that_of_the_device_and_type(kind, dtype, peak):
    assert peak_of(kind, dtype) == peak


def test_resnet50_at_a_known_speed(small_config, monkeypatch):
    small_config = override(small_config, {"model.dtype": "bfloat16"})

    class Device:
        device_kind = "NVIDIA A100-SXM4-80GB"

    class Experiment:
        config, macs = small_config, 4.1e9

        class parallel:  # noqa: N801
            num_devices = 8

    monkeypatch.setattr("jax.devices", lambda: [Device()])
    # 2,500 images/s a device × 4.1 GMAC × 6 = 61.5 of 312 TFLOP/s.
    assert speed_of(Experiment(), 8 * 2500) == {"images_per_second": 20000, "mfu": 0.1971}
    assert speed_of(Experiment(), 8 * 2500, num_runs=2) == {"images_per_second": 20000}
