"""Weights of PyTorch's residual networks in, and ours out. Needs torch and huggingface_hub only where used."""

from resnet_jax.interop.arrays import write_arrays
from resnet_jax.interop.errors import LoadReport, WeightsError
from resnet_jax.interop.load import fit_weights, load_weights
from resnet_jax.interop.preprocessing import Preprocessing
from resnet_jax.interop.save import save_weights, torch_state

__all__ = [
    "LoadReport",
    "Preprocessing",
    "WeightsError",
    "fit_weights",
    "load_weights",
    "save_weights",
    "torch_state",
    "write_arrays",
]
