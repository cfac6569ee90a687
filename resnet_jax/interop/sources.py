"""Where state dicts come from: files, the Hugging Face hub, mappings. No code in a file is ever run."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from resnet_jax.interop.errors import WeightsError

_PICKLES = (".pth", ".th", ".pt", ".bin", ".tar")
_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net")
_HUB_FILE = "model.safetensors"


def read(source: Any) -> dict[str, Any]:
    """A state dict.

    Args:
        source: path of a `.safetensors` file or of one that `torch.save` wrote (`.pth`, `.th`, `.pt`,
            `.bin`, `.tar`); `hf://owner/name` or `hf://owner/name@revision`; or a mapping from names to
            arrays or tensors. One under a key such as `state_dict` or `model` is found.

    Returns:
        Name → NumPy array of any float type; entries that are no arrays stay as they are.

    Raises:
        WeightsError: a file of another kind, a damaged one, or one that holds code.
        FileNotFoundError: there is no such file.
        ImportError: torch or huggingface_hub is needed and not installed.
    """
    if not isinstance(source, Mapping):
        path = _from_hub(source) if str(source).startswith("hf://") else Path(source)
        source = _read_file(path)
    inner = next((source[key] for key in _WRAPPERS if isinstance(source.get(key), Mapping)), None)
    if inner is not None:
        return read(inner)
    return {str(name): _as_numpy(value) for name, value in source.items()}


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
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix in _PICKLES:
        return _read_pickle(path)
    raise WeightsError(f"{path}: must end with .safetensors, {', '.join(_PICKLES)}")


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    # The last two: a type that NumPy lacks.
    except (SafetensorError, AttributeError, TypeError) as error:
        raise WeightsError(f"{path}: not a readable safetensors file: {error}") from error


def _read_pickle(path: Path) -> Mapping[str, Any]:
    try:
        import torch
    except ImportError as error:
        message = f"{path}: needs PyTorch: pip install 'resnet-jax[torch]', or use .safetensors"
        raise ImportError(message) from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    # A damaged pickle can fail in any way.
    except Exception as error:
        message = f"{path}: refused, as it holds more than tensors, or is damaged: {error}"
        raise WeightsError(message) from error
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path}: holds a {type(content).__name__}, not a state dict")
    return content


def _from_hub(url: str) -> Path:
    match = re.fullmatch(r"hf://([^/@]+/[^/@]+)(?:@(.+))?", str(url))
    if not match:
        raise WeightsError(f"{url}: must be hf://owner/name or hf://owner/name@revision")
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError
    except ImportError as error:
        raise ImportError(f"{url}: needs pip install 'resnet-jax[hub]'") from error
    repository, revision = match.groups()
    try:
        return Path(hf_hub_download(repository, _HUB_FILE, revision=revision))
    except (EntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise WeightsError(f"{url}: {_HUB_FILE} cannot be had: {error}") from error
