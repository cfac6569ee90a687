"""Save our networks as state dicts of PyTorch code."""

from pathlib import Path

import numpy as np

from resnet_jax.files import write_file
from resnet_jax.interop.arrays import read_arrays, to_torch
from resnet_jax.interop.namings import (
    CONVOLUTIONAL_HEAD,
    NAMINGS,
    default_naming,
    kinds,
    their_names,
)
from resnet_jax.interop.preprocessing import Preprocessing, to_text
from resnet_jax.interop.sources import PREPROCESSING
from resnet_jax.models import ResNet


def torch_state(model: ResNet, naming: str | None = None) -> dict[str, np.ndarray]:
    """Parameters and statistics in the names and layouts of PyTorch code.

    Args:
        model: the network; unrolled, scanned or frozen.
        naming: a key of `namings.NAMINGS`; None: timm's ResNetV2 for pre-activated networks with an
            ImageNet stem, torchvision's for others.

    Returns:
        Name → array, with a `num_batches_tracked` for every batch norm.

    Raises:
        ValueError: no such naming, or one that has no name for a part of the network.
    """
    naming = naming or default_naming(model)
    if naming not in NAMINGS:
        raise ValueError(f"naming = {naming!r}: allowed: {', '.join(NAMINGS)}")
    arrays = read_arrays(model)
    state: dict[str, np.ndarray] = {}
    for ours, theirs in their_names(arrays, naming, kinds(model)).items():
        if not theirs:
            raise ValueError(f"naming = {naming!r}: has no name for {ours}")
        in_convolution = ours == "head.kernel" and naming in CONVOLUTIONAL_HEAD
        state[theirs[0]] = to_torch(arrays[ours], in_convolution)
        if ours.endswith(".var"):
            counter = theirs[0].replace("running_var", "num_batches_tracked")
            state[counter] = np.zeros((), np.int64)
    return state


def save_weights(
    model: ResNet,
    path: str | Path,
    naming: str | None = None,
    preprocessing: Preprocessing | None = None,
) -> None:
    """Write a network to a safetensors file that PyTorch code loads; `load_weights` is the inverse.

    torch's `load_state_dict` accepts it with `strict=True` in the network of the same architecture.
    What no other code has is named in the same manner (`namings.NAMINGS`): `layer1.0.gate.weight`,
    `layer1.0.ls.gamma` (learned branch scales), `layer1.0.bias1.bias` (Fixup).

    Args:
        model, naming: see `torch_state`.
        preprocessing: of the images that the network was trained on, for the metadata of the file;
            `load_weights` reports it. None: unknown.
        path: ends with `.safetensors`; an existing file is replaced at once or not at all.

    Raises:
        ValueError: another suffix; see also `torch_state`.
    """
    from safetensors.numpy import save

    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: must end with .safetensors")
    # transformers refuses files that do not say which framework they are of.
    metadata = {"format": "pt", PREPROCESSING: to_text(preprocessing)}
    content = save(torch_state(model, naming), metadata=metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, content)
