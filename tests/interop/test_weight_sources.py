"""Files, hub names and mappings as sources of weights."""

import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from nets import same_bits, small_net

from resnet_jax.interop import WeightsError, load_weights, save_weights, torch_state

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def model():
    return small_net(seed=2)


def is_loaded(model) -> bool:
    return same_bits(model, small_net(seed=1))


@pytest.fixture
def tensors():
    torch = pytest.importorskip("torch")
    return {name: torch.from_numpy(array) for name, array in torch_state(small_net(1)).items()}


@pytest.mark.parametrize("suffix", [".pth", ".th", ".pt", ".pth.tar", ".bin"])
def test_files_of_torch(model, tensors, tmp_path, suffix):
    import torch

    path = tmp_path / f"net{suffix}"
    content = {"state_dict": {f"module.{n}": t for n, t in tensors.items()}, "epoch": 3}
    torch.save(content, path)
    load_weights(model, path)
    assert is_loaded(model)


def test_tensors_that_need_gradients_in_bfloat16(model, tensors):
    counted = {n: t for n, t in tensors.items() if not t.is_floating_point()}
    load_weights(
        model,
        counted
        | {n: t.bfloat16().requires_grad_() for n, t in tensors.items() if n not in counted},
    )
    kernel = np.asarray(small_net(1).head.kernel.get_value())
    assert np.allclose(model.head.kernel.get_value(), kernel, rtol=1 / 256, atol=0)
    assert not np.array_equal(model.head.kernel.get_value(), kernel)


def test_a_bfloat16_safetensors_file_without_torch(model, tensors, tmp_path, monkeypatch):
    from safetensors.torch import save_file

    floats = {n: t.bfloat16() for n, t in tensors.items() if t.is_floating_point()}
    save_file(floats, tmp_path / "net.safetensors")
    monkeypatch.setitem(sys.modules, "torch", None)
    load_weights(model, str(tmp_path / "net.safetensors"))
    expected = floats["fc.bias"].float().numpy()
    assert np.array_equal(model.head.bias.get_value(), expected)


class Code:
    """A pickle of it creates a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_a_pickle_with_code_is_refused_and_not_run(model, tmp_path, writer):
    torch = pytest.importorskip("torch")
    trace, path = tmp_path / "trace", tmp_path / "net.pth"
    content = {"conv1.weight": Code(trace)}
    if writer == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(WeightsError, match="refused"):
        load_weights(model, path)
    assert not trace.exists()
    torch.load(path, weights_only=False) if writer == "torch" else pickle.loads(path.read_bytes())
    assert trace.exists(), "the pickle would have run"


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
def test_damaged_files_are_refused(model, tmp_path, name):
    if name.endswith(".pth"):
        pytest.importorskip("torch")
    (tmp_path / name).write_bytes(b"\x07 not a file of weights")
    with pytest.raises(WeightsError, match=name):
        load_weights(model, tmp_path / name)


def test_files_of_other_kinds_and_absent_files(model, tmp_path):
    (tmp_path / "net.npz").touch()
    with pytest.raises(WeightsError, match=r"must end with \.safetensors"):
        load_weights(model, tmp_path / "net.npz")
    with pytest.raises(FileNotFoundError, match=r"absent\.pth"):
        load_weights(model, tmp_path / "absent.pth")


def test_a_file_of_a_single_tensor_is_refused(model, tensors, tmp_path):
    import torch

    torch.save(tensors["fc.bias"], tmp_path / "net.pt")
    with pytest.raises(WeightsError, match="not a state dict"):
        load_weights(model, tmp_path / "net.pt")


@pytest.mark.parametrize(
    ("module", "source", "extra"),
    [("torch", "net.pth", "torch"), ("huggingface_hub", "hf://timm/resnet18", "hub")],
)
def test_a_missing_extra_is_named(model, tmp_path, monkeypatch, module, source, extra):
    (tmp_path / "net.pth").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"pip install 'resnet-jax\[{extra}\]'"):
        load_weights(model, source)


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """The hub's cache with one repository, `owner/name`, at revisions `main` and `v1`; offline."""
    constants = pytest.importorskip("huggingface_hub.constants")
    repository = tmp_path / "hub" / "models--owner--name"
    for revision, commit, seed in (("main", COMMIT, 1), ("v1", COMMIT[::-1], 3)):
        blob = repository / "blobs" / f"{seed:064x}"
        snapshot = repository / "snapshots" / commit / "model.safetensors"
        save_weights(small_net(seed), tmp_path / "net.safetensors")
        for path in (blob, snapshot, repository / "refs" / revision):
            path.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "net.safetensors").replace(blob)
        snapshot.symlink_to(os.path.relpath(blob, snapshot.parent))
        (repository / "refs" / revision).write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.mark.parametrize(
    ("source", "seed"),
    [("hf://owner/name", 1), ("hf://owner/name@v1", 3), (f"hf://owner/name@{COMMIT}", 1)],
)
def test_hub_names_are_read_from_the_cache_offline(model, hub_cache, source, seed):
    load_weights(model, source)
    assert same_bits(model, small_net(seed))


@pytest.mark.parametrize("source", ["hf://owner/other", "hf://owner/name@v2"])
def test_what_is_not_in_the_cache_offline(model, hub_cache, source):
    with pytest.raises(WeightsError, match=source):
        load_weights(model, source)


@pytest.mark.parametrize("source", ["hf://name", "hf://owner/name/file", "hf://", "hf://o/n@"])
def test_malformed_hub_names(model, source):
    with pytest.raises(WeightsError, match="must be hf://owner/name"):
        load_weights(model, source)
