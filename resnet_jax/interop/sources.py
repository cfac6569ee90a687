"""Where state dicts come from: files, the Hugging Face hub, mappings. No code in a file is ever run."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from resnet_jax.interop import hub
from resnet_jax.interop.entries import TOP, choose_entry
from resnet_jax.interop.errors import WeightsError
from resnet_jax.interop.preprocessing import Preprocessing, from_text

_PICKLES = (".pth", ".th", ".pt", ".bin", ".tar")
SAFETENSORS = ".safetensors"
# Bytes of arrays for one of their file: layers may share one. A tensor whose numbers are one number in
# the file may claim any size.
MOST_EXPANSION = 16
# Key in the metadata of the safetensors files that we write.
PREPROCESSING = "preprocessing"


class StateDict(NamedTuple):
    """The weights of a source.

    Attributes:
        weights: name → NumPy array of any float type; entries that are no arrays stay as they are.
        entry, other_entries: as of `LoadReport`.
        preprocessing: of the images they were trained on, where the source says it.
        is_ours: `save_weights` wrote the file, so what it does not say is unknown.
    """

    weights: dict[str, Any]
    entry: str | None
    other_entries: tuple[str, ...]
    preprocessing: Preprocessing | None = None
    is_ours: bool = False


def read(source: Any, entry: str | None = None) -> StateDict:
    """A state dict.

    Args:
        source: path of a `.safetensors` file or of one that `torch.save` wrote (`.pth`, `.th`, `.pt`,
            `.bin`, `.tar`); `hf://owner/name` or `hf://owner/name@revision`; or a mapping from names to
            arrays or tensors, or to such mappings.
        entry: which state dict of a checkpoint, e.g. `state_dict` or `model.ema`; None: averages
            first, then the usual names (`entries.choose_entry`).

    Raises:
        WeightsError: a file of another kind, a corrupt one, one that holds code, or no such entry.
        FileNotFoundError: there is no such file.
        ImportError: torch or huggingface_hub is needed and not installed.
    """
    if isinstance(source, Mapping):
        return _state_dict(source, entry)
    on_hub = str(source).startswith("hf://")
    path = hub.download(str(source)) if on_hub else Path(source)
    content = _read_file(path)
    try:
        found = _state_dict(content, entry, MOST_EXPANSION * path.stat().st_size)
    except WeightsError as error:
        raise WeightsError(f"{source}: {error}") from None
    if on_hub:
        return found._replace(preprocessing=hub.stated_preprocessing(str(source)))
    if path.suffix == SAFETENSORS:
        stated, is_ours = _stated_in(path)
        return found._replace(preprocessing=stated, is_ours=is_ours)
    return found


def _state_dict(
    content: Mapping[Any, Any], entry: str | None, largest: int | None = None
) -> StateDict:
    """A state dict of some content whose arrays may have `largest` bytes; None: any."""
    taken, others = choose_entry(content, entry)
    if largest is not None and (size := sum(map(_bytes, taken.weights.values()))) > largest:
        raise WeightsError(f"its arrays claim {size:,} bytes, more than the file can hold")
    try:
        weights = {str(name): _as_numpy(value) for name, value in taken.weights.items()}
    # Tensors that are sparse, quantised or without data, and whatever torch adds.
    except (TypeError, RuntimeError, ValueError) as error:
        raise WeightsError(f"holds what is not an ordinary array: {error}") from error
    return StateDict(weights, None if taken.name == TOP and not others else taken.name, others)


def _bytes(value: Any) -> int:
    """Bytes of an array or tensor if each of its numbers had its own; 0 of other things."""
    if hasattr(value, "element_size"):
        return value.numel() * value.element_size()
    return getattr(value, "nbytes", 0)


def _as_numpy(value: Any) -> Any:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        try:
            return value.numpy()
        except TypeError:  # bfloat16, of which torch makes no NumPy array
            return value.float().numpy()
    return np.asarray(value) if hasattr(value, "shape") else value


def _read_file(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"no file of weights: {path}")
    if path.suffix == SAFETENSORS:
        return _read_safetensors(path)
    if path.suffix in _PICKLES:
        return _read_pickle(path)
    raise WeightsError(f"{path}: must end with {SAFETENSORS}, {', '.join(_PICKLES)}")


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    # The last two: a type that NumPy lacks.
    except (SafetensorError, AttributeError, TypeError) as error:
        raise WeightsError(f"{path}: not a readable safetensors file: {error}") from error


def _stated_in(path: Path) -> tuple[Preprocessing | None, bool]:
    """What the metadata of a safetensors file say, and whether we wrote them."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        text = (file.metadata() or {}).get(PREPROCESSING)
    try:
        return (None, False) if text is None else (from_text(text), True)
    except (ValueError, TypeError):
        return None, False


def _check_sizes(path: Path) -> None:
    """Refuse a zip file that holds more than it has: `torch.save` does not compress.

    Raises:
        ValueError: it unpacks to more; it is a corrupt zip file.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > path.stat().st_size:
        raise ValueError(f"it unpacks to {unpacked:,} bytes; save it again with torch.save")


def _read_pickle(path: Path) -> Mapping[str, Any]:
    try:
        import torch
    except ImportError as error:
        message = f"{path}: needs PyTorch: pip install 'resnet-jax[torch]', or use .safetensors"
        raise ImportError(message) from error
    try:
        _check_sizes(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    # A corrupt pickle can fail in any way.
    except Exception as error:
        message = f"{path}: refused, as it holds more than tensors, or is corrupt: {error}"
        raise WeightsError(message) from error
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path}: holds a {type(content).__name__}, not a state dict")
    return content
