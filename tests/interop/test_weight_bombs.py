"""Files of weights that claim more than they hold: refused in one message, with bounded memory."""

import io
import json
import struct
import zipfile

import numpy as np
import pytest

from resnet_jax.interop import WeightsError
from resnet_jax.interop.sources import read

torch = pytest.importorskip("torch")


def save(path, content):
    torch.save(content, path)
    return path


def nested(levels, content):
    for _ in range(levels):
        content = {"a": content, "b": content}
    return content


def cycle():
    content = {"x.weight": torch.zeros(2)}
    content["again"] = content
    return content


def test_a_packed_file_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    file = io.BytesIO()
    torch.save({"x.weight": torch.zeros(2**18)}, file)
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(file) as plain, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    monkeypatch.setattr(torch, "load", None)
    with pytest.raises(WeightsError, match=r"it unpacks to 1,0\d\d,\d\d\d bytes"):
        read(path)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_tensor_whose_numbers_are_one_number(tmp_path, dtype):
    tensor = torch.zeros(1, dtype=getattr(torch, dtype)).expand(10**12)
    with pytest.raises(WeightsError, match="claim .* bytes, more than the file can hold"):
        read(save(tmp_path / "net.pth", {"x.weight": tensor}))


def test_layers_may_share_a_tensor(tmp_path):
    shared = torch.ones(5000)
    content = {f"layer{i}.weight": shared for i in range(9)}
    found = read(save(tmp_path / "net.pth", content)).weights
    assert len(found) == 9
    np.testing.assert_array_equal(found["layer8.weight"], np.ones(5000, np.float32))


@pytest.mark.parametrize("make", [cycle, lambda: nested(40, {"x.weight": torch.zeros(2)})])
def test_dicts_that_hold_dicts_without_end(tmp_path, make):
    with pytest.raises(WeightsError, match="32 levels"):
        read(save(tmp_path / "net.pth", make()))


@pytest.mark.parametrize(
    "tensor",
    [torch.zeros(3, device="meta"), torch.eye(2).to_sparse()],
    ids=["meta", "sparse"],
)
def test_tensors_that_are_no_arrays(tmp_path, tensor):
    with pytest.raises(WeightsError, match="not an ordinary array"):
        read(save(tmp_path / "net.pth", {"x.weight": tensor}))


def header(content, data=b"", length=None):
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape, offsets):
    return {"dtype": "F32", "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        header({}, length=2**40),
        header({}, length=2**63),
        header(b'{"a":' + b"[" * 10**5),
        header({"a": entry([2**50], [0, 2**52])}),
        header({"a": entry([2**62, 4], [0, 0])}),
        header({"a": entry([4], [0, 16]), "b": entry([4], [0, 16])}, bytes(16)),
    ],
)
def test_safetensors_headers_that_are_wrong(tmp_path, content):
    path = tmp_path / "net.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="not a readable safetensors file"):
        read(path)


def test_deep_json_in_the_metadata_says_nothing(tmp_path):
    path = tmp_path / "net.safetensors"
    metadata = {"preprocessing": "[" * 10**5}
    path.write_bytes(header({"__metadata__": metadata, "x.weight": entry([1], [0, 4])}, bytes(4)))
    assert read(path).preprocessing is None
