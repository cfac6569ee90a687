"""Model FLOPs utilisation (Chowdhery et al. 2022, PaLM, §4.1): useful work over what the devices could do."""

import jax

from resnet_jax.training.experiment import Experiment

# Dense peak of one device in FLOP/s as its maker publishes it, by the beginning of
# `jax.Device.device_kind`: (bfloat16 or float16, float32 as XLA computes it by default: TF32 on
# NVIDIA's since Ampere, one bfloat16 pass on a TPU). A JAX device is half a chip on TPU v2 and v3.
# Sources: NVIDIA's data sheets of T4, V100, A100, L4, H100, H200 and B200 (without sparsity), and
# docs.cloud.google.com/tpu/docs, "TPU versions". What begins alike and is slower comes first.
PEAKS: dict[str, tuple[float, float]] = {
    "Tesla T4": (65e12, 8.1e12),
    "Tesla V100": (125e12, 15.7e12),
    "NVIDIA A100": (312e12, 156e12),
    "NVIDIA L40S": (362e12, 183e12),
    "NVIDIA L40": (181e12, 90.5e12),
    "NVIDIA L4": (121e12, 60e12),
    "NVIDIA H100 PCIe": (756e12, 378e12),
    "NVIDIA H100 NVL": (835e12, 418e12),
    "NVIDIA H100": (989e12, 494e12),
    "NVIDIA H200 NVL": (835e12, 418e12),
    "NVIDIA H200": (989e12, 494e12),
    "NVIDIA B200": (2250e12, 1125e12),
    "TPU v2": (22.5e12, 22.5e12),
    "TPU v3": (61.5e12, 61.5e12),
    "TPU v4": (275e12, 275e12),
    "TPU v5 lite": (197e12, 197e12),
    "TPU v5": (459e12, 459e12),
    "TPU v6 lite": (918e12, 918e12),
}
# A multiply-add is two; the backward pass computes two gradients of each product.
FLOPS_PER_MAC = 2 * 3
HALVES = ("bfloat16", "float16")


def peak_of(device_kind: str, dtype: str) -> float | None:
    """FLOP/s of a device at its best; None where it is not known."""
    # A slice of a GPU (MIG) bears the name of the whole.
    if dtype not in (*HALVES, "float32") or " MIG " in device_kind:
        return None
    known = [peaks for name, peaks in PEAKS.items() if device_kind.startswith(name)]
    return known[0][dtype not in HALVES] if known else None


def speed_of(
    experiment: Experiment, images_per_second: float, num_runs: int = 1
) -> dict[str, float]:
    """`images_per_second` where it is known, not 0; and `mfu`, 0 to 1, where the peak is known too and a
    run is trained alone."""
    if not images_per_second:
        return {}
    speed = {"images_per_second": round(images_per_second, 1)}
    peak = peak_of(jax.devices()[0].device_kind, experiment.config.model.dtype)
    if peak is not None and num_runs == 1:
        flops = FLOPS_PER_MAC * experiment.macs * images_per_second
        speed["mfu"] = round(flops / (peak * experiment.parallel.num_devices), 4)
    return speed
