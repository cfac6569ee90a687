"""Exported files compute what the network computes, without the package."""

import importlib.util
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from resnet_jax import models
from resnet_jax.interop import export
from resnet_jax.interop.export import ExportError, export_onnx, export_stablehlo
from resnet_jax.interop.replay import SUBSTITUTES, replay

SHAPE = (16, 16, 3)
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)

OUTSIDE = """
import sys
import jax, numpy as np
from jax import export

with open(sys.argv[1], "rb") as file:
    network = export.deserialize(bytearray(file.read()))
images = np.load(sys.argv[2])
logits = [network.call(images[:count]) for count in (1, 3, len(images))]
np.savez(sys.argv[3], *map(np.asarray, logits))
assert not {"resnet_jax", "flax"} & set(sys.modules)
"""


def make(**options):
    """A ResNet-8 in train mode, with random running statistics."""
    fields = {"family": "cifar", "depth": 8, "num_classes": 5, **options}
    model = models.resnet(**fields, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(1)
    for path, value in nnx.iter_graph(model):
        if isinstance(value, nnx.BatchStat):
            low, high = (0.5, 1.0) if path[-1] == "var" else (-0.1, 0.1)
            value.set_value(jnp.asarray(rng.uniform(low, high, value.shape), jnp.float32))
    return model


def random_images(count=5, shape=SHAPE):
    return np.random.default_rng(2).standard_normal((count, *shape), np.float32)


def evaluate(model, images):
    graphdef, arrays = nnx.split(models.evaluation_view(model))
    return np.asarray(jax.jit(lambda a, x: nnx.merge(graphdef, a)(x))(arrays, images))


def relative_difference(a, b):
    return np.abs(a - b).max() / np.abs(b).max()


def run_outside(tmp_path, images):
    np.save(tmp_path / "images.npy", images)
    arguments = [tmp_path / "net.stablehlo", tmp_path / "images.npy", tmp_path / "logits.npz"]
    subprocess.run([sys.executable, "-c", OUTSIDE, *arguments], check=True, cwd=tmp_path)
    return list(np.load(tmp_path / "logits.npz").values())


def test_a_new_process_without_the_package_computes_the_same_for_any_batch_size(tmp_path):
    model, images = make(), random_images()
    export_stablehlo(model, SHAPE, tmp_path / "net.stablehlo")
    expected = evaluate(model, images)
    for logits in run_outside(tmp_path, images):
        assert relative_difference(logits, expected[: len(logits)]) < 1e-5


def test_a_file_that_normalises_takes_uint8(tmp_path):
    model = make()
    images = np.random.default_rng(3).integers(0, 256, (5, *SHAPE), np.uint8)
    export_stablehlo(model, SHAPE, tmp_path / "net.stablehlo", normalize=(MEAN, STD))
    normalised = (images / np.float32(255) - np.float32(MEAN)) / np.float32(STD)
    expected = evaluate(model, normalised)
    for logits in run_outside(tmp_path, images):
        assert relative_difference(logits, expected[: len(logits)]) < 1e-4


@pytest.mark.parametrize(
    "options",
    [
        {"convolution": "loop_safe"},
        {"depth": 14, "scan_blocks": True, "remat": "block", "convolution": "loop_safe"},
        {"survival_probability": 0.5, "dropout": 0.5},
        {"dtype": jnp.bfloat16},
        {"stem": "imagenet", "shortcut": "D", "antialias": True, "squeeze_reduction": 4},
        {"norm": "group", "weight_standardization": True},
    ],
    ids=lambda options: "-".join(options),
)
def test_every_part_can_be_exported_as_stablehlo(options, tmp_path):
    model, images = make(**options), random_images()
    export_stablehlo(model, SHAPE, tmp_path / "net")
    reloaded = jax.export.deserialize(bytearray((tmp_path / "net").read_bytes()))
    tolerance = 0.05 if "dtype" in options else 1e-5
    assert relative_difference(reloaded.call(images), evaluate(model, images)) < tolerance


def test_the_model_stays_in_its_mode(tmp_path):
    model = make(survival_probability=0.5)
    before = nnx.to_pure_dict(nnx.state(model))
    export_stablehlo(model, SHAPE, tmp_path / "net")
    jax.tree.map(np.testing.assert_array_equal, before, nnx.to_pure_dict(nnx.state(model)))
    with pytest.raises(ValueError, match="needs a key"):
        model(random_images())


def test_any_module_from_images_to_logits_can_be_exported(tmp_path):
    model = nnx.Sequential(lambda x: x.mean((1, 2)), nnx.Linear(3, 2, rngs=nnx.Rngs(0)))
    export_stablehlo(model, SHAPE, tmp_path / "net")
    reloaded = jax.export.deserialize(bytearray((tmp_path / "net").read_bytes()))
    assert relative_difference(reloaded.call(random_images()), model(random_images())) < 1e-5


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        export_stablehlo(make(), SHAPE, tmp_path / "absent" / "net")
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n: (n != "jax2onnx" and find(n)) or None
    )
    with pytest.raises(ExportError, match=r"jax2onnx: pip install 'resnet-jax\[onnx\]'"):
        export_onnx(make(), SHAPE, tmp_path / "net")


@pytest.mark.parametrize(
    "options",
    [
        {"scan_blocks": True, "depth": 14, "remat": "block", "convolution": "loop_safe"},
        {"stem": "imagenet", "antialias": True, "squeeze_reduction": 4, "shortcut": "D"},
        {"stem": "deep", "norm": "group", "activation_order": "full_preactivation"},
        {"weight_standardization": True, "shortcut": "highway", "dropout": 0.5},
        {"block": "bottleneck", "depth": 11, "groups": 4, "shortcut": "B"},
        {"branch_init": "layerscale", "survival_probability": 0.5},
    ],
    ids=lambda options: "-".join(options),
)
def test_onnxruntime_computes_the_same_for_any_batch_size(options, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    model, images = make(**options), random_images()
    export_onnx(model, SHAPE, tmp_path / "net.onnx")
    session = runtime.InferenceSession(tmp_path / "net.onnx")
    expected = evaluate(model, images)
    for count in (1, 3, len(images)):
        (logits,) = session.run(["logits"], {"images": images[:count]})
        assert relative_difference(logits, expected[:count]) < 1e-4


def test_an_onnx_file_that_normalises_takes_uint8(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    model = make()
    images = np.random.default_rng(3).integers(0, 256, (4, *SHAPE), np.uint8)
    export_onnx(model, SHAPE, tmp_path / "net.onnx", normalize=(MEAN, STD))
    (logits,) = runtime.InferenceSession(tmp_path / "net.onnx").run(None, {"images": images})
    normalised = (images / np.float32(255) - np.float32(MEAN)) / np.float32(STD)
    assert relative_difference(logits, evaluate(model, normalised)) < 1e-4


def test_onnx_refuses_half_precision(tmp_path):
    pytest.importorskip("jax2onnx")
    with pytest.raises(ExportError, match="bfloat16.*dtype float32.*StableHLO"):
        export_onnx(make(dtype=jnp.bfloat16), SHAPE, tmp_path / "net.onnx")


class Sorted(nnx.Module):
    """Nothing that a converter knows."""

    def __call__(self, images):
        return jnp.linalg.eigh(images[..., 0])[0]


def test_a_network_that_the_converter_does_not_know_is_one_line(tmp_path):
    pytest.importorskip("jax2onnx")
    with pytest.raises(ExportError, match=r"jax2onnx .* cannot convert .*; export it") as caught:
        export_onnx(Sorted(), SHAPE, tmp_path / "net.onnx")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_wrong_conversion_is_not_written(tmp_path, monkeypatch):
    pytest.importorskip("jax2onnx")
    monkeypatch.setitem(SUBSTITUTES, "max", lambda x, y: x)
    with pytest.raises(ExportError, match="logits differ by"):
        export_onnx(make(), SHAPE, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_replay_computes_what_depends_on_weights_alone_beforehand():
    model = make(weight_standardization=True)
    forward, images = export._forward(model, SHAPE, None)
    program = jax.make_jaxpr(forward)(images)
    replayed = jax.make_jaxpr(lambda x: replay(program, [x])[0])(images)
    names = [equation.primitive.name for equation in replayed.jaxpr.eqns]
    assert "rsqrt" in str(program)
    assert "rsqrt" not in names
