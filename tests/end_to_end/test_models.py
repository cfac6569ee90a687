"""Weights in, frozen parts, weights and programs out, summaries: by the command line."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from commands import ROOT, assert_same_run, launch
from safetensors.numpy import load_file, save_file

from resnet_jax import models
from resnet_jax.cli import main
from resnet_jax.interop import save_weights

DIGITS = f"--config={ROOT}/configs/digits.py"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A ResNet-8 for other digits: seven classes."""
    path = tmp_path_factory.mktemp("weights") / "seven.safetensors"
    build = lambda rngs: models.create("cifar_resnet8", num_classes=7, in_channels=1, rngs=rngs)  # noqa: E731
    save_weights(models.initialise(build, 5), path)
    return path


@pytest.fixture(scope="module")
def fine_tuned(weights, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "run"
    done = launch("train", workdir, f"--config.model.init_from={weights}",
                  "--config.model.freeze=stem, stage1")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "without its classifier of 7 classes" in done.stdout
    return workdir


def test_fine_tuning_moves_what_is_not_frozen(weights, fine_tuned, tmp_path):
    out = tmp_path / "tuned.safetensors"
    assert main(["export", f"--workdir={fine_tuned}", f"--out={out}"]) == 0
    before, after = load_file(weights), load_file(out)
    assert before.keys() == after.keys()
    for name, array in after.items():
        if name.endswith("num_batches_tracked"):
            continue
        frozen = name.startswith(("conv1", "bn1", "layer1"))
        same = array.shape == before[name].shape and np.array_equal(array, before[name])
        assert same == frozen, name
    # Ten steps of a small rate: the rest began at the file's values and not at fresh ones.
    moved = after["layer3.0.conv2.weight"] - before["layer3.0.conv2.weight"]
    assert np.abs(moved).max() < 0.5 * np.abs(before["layer3.0.conv2.weight"]).max()


def test_a_resumed_run_does_not_read_the_weights_again(weights, tmp_path):
    copy = tmp_path / "copy.safetensors"
    save_file(load_file(weights), copy)
    options = [f"--config.model.init_from={copy}"]
    workdir = tmp_path / "run"
    assert launch("train", workdir, *options, train__duration="5 steps").returncode == 0
    # A run that was stopped before its first checkpoint begins again, and does read them.
    unsaved = tmp_path / "unsaved"
    shutil.copytree(workdir, unsaved)
    shutil.rmtree(unsaved / "checkpoints")
    (unsaved / "checkpoints").mkdir()
    done = launch("train", unsaved, *options, train__duration="5 steps")
    assert "starts from" in done.stdout
    assert_same_run(unsaved, workdir, 5)
    copy.unlink()
    done = launch("train", workdir, *options, train__duration="5 steps")
    assert done.returncode == 0, done.stderr


def test_exported_program_needs_no_package(fine_tuned, tmp_path):
    pytest.importorskip("flatbuffers")
    out = tmp_path / "net.stablehlo"
    assert main(["export", f"--workdir={fine_tuned}", f"--out={out}", "--raw"]) == 0
    code = (
        "import sys, numpy as np; from jax import export; from sklearn.datasets import load_digits;"
        f"net = export.deserialize(bytearray(open({str(out)!r}, 'rb').read()));"
        "images = (load_digits().images * 255 / 16).round().astype(np.uint8)[..., None];"
        "print([net.call(images[:n]).shape for n in (1, 7)], 'resnet_jax' in sys.modules)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert printed.stdout.strip() == "[(1, 10), (7, 10)] False", printed.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--out=net.tflite"], "allowed: .stablehlo, .onnx, .safetensors"),
        (["--out=weights"], "--out = 'weights': its suffix"),
        (["--out=net.safetensors", "--raw"], "weights alone"),
        (["--out=nowhere/net.safetensors"], "does not exist"),
        (["--out=net.safetensors", "--step=3"], "has 5, 10"),
    ],
)
def test_export_refuses(fine_tuned, capsys, monkeypatch, tmp_path, options, words):
    monkeypatch.chdir(tmp_path)
    assert main(["export", f"--workdir={fine_tuned}", *options]) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_summary_adds_up_without_the_data(capsys):
    words = ["--config.model.num_classes=1000", "--config.model.depth=34", "--json"]
    assert main(["summary", f"--config={ROOT}/configs/imagenet/goyal2017.py", *words]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["parameters"] == models.ZOO["resnet34"].parameters
    assert sum(part["macs"] for part in printed["parts"]) == printed["macs"]
    assert [part["blocks"] for part in printed["parts"]] == [0, 3, 4, 6, 3, 0]


def test_multi_scale_evaluation(fine_tuned, capsys):
    def evaluate(*options):
        assert main(["evaluate", f"--workdir={fine_tuned}", "--json", *options]) == 0
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    plain, own = evaluate(), evaluate("--config.evaluate.scales=8")
    assert own["loss"] == pytest.approx(plain["loss"], rel=1e-4)
    two = evaluate("--config.evaluate.scales=8,12")
    assert two["examples"] == 360
    assert two["loss"] != pytest.approx(plain["loss"], rel=1e-4)
