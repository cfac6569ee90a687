"""Weights of the Hugging Face hub, and how images were prepared for them."""

import re
from pathlib import Path

from resnet_jax.interop.errors import WeightsError
from resnet_jax.interop.preprocessing import Preprocessing, from_hub
from resnet_jax.strict_json import read_json

_WEIGHTS = "model.safetensors"
# transformers says it in the first, timm in the second.
_PREPROCESSING = ("preprocessor_config.json", "config.json")


def download(url: str) -> Path:
    """The weights of `hf://owner/name` or `hf://owner/name@revision`, from the hub's cache if they are there.

    Raises:
        WeightsError: another form, no such repository, or it cannot be reached.
        ImportError: huggingface_hub is not installed.
    """
    try:
        import huggingface_hub  # noqa: F401
        from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError
    except ImportError as error:
        raise ImportError(f"{url}: needs pip install 'resnet-jax[hub]'") from error
    try:
        return _download(url, _WEIGHTS)
    except (EntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise WeightsError(f"{url}: {_WEIGHTS} cannot be had: {error}") from error


def stated_preprocessing(url: str) -> Preprocessing | None:
    """What the repository says; None: nothing, or it cannot be reached."""
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    for name in _PREPROCESSING:
        try:
            found = from_hub(read_json(_download(url, name)))
        except (EntryNotFoundError, HfHubHTTPError, OSError, ValueError, TypeError, AttributeError):
            continue
        if found is not None:
            return found
    return None


def _download(url: str, name: str) -> Path:
    from huggingface_hub import hf_hub_download

    match = re.fullmatch(r"hf://([^/@]+/[^/@]+)(?:@(.+))?", url)
    if not match:
        raise WeightsError(f"{url}: must be hf://owner/name or hf://owner/name@revision")
    repository, revision = match.groups()
    return Path(hf_hub_download(repository, name, revision=revision))
