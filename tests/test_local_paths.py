"""Paths that cannot be used are refused by every command before anything is written."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnet_jax.cli import main
from resnet_jax.errors import UserError
from resnet_jax.paths import is_url, local_path
from resnet_jax.sweeps.runner import SweepOptions
from resnet_jax.sweeps.sweep_directory import SweepDirectory

SCHEMES = ["gs", "s3", "hdfs", "file", "memory", "http", "abfss", "a+b.c-d"]
DIGITS = "--config=configs/digits.py"
COMMANDS = [
    ["train", DIGITS, "--workdir={}"],
    ["sweep", "--config=configs/sweeps/depth.py", "--workdir={}"],
    ["evaluate", "--workdir={}"],
    ["export", "--workdir={}", "--out=x.onnx"],
    ["export", "--workdir=x", "--out={}.onnx"],
    ["analyze", "gradients", "--workdir", "x", "{}"],
    ["analyze", "layer_chain", "--out={}"],
    ["report", "{}"],
    ["report", "x", "--out={}.html"],
    ["prepare", "cifar10", "--data_dir={}"],
    ["prepare", "fashion_mnist", "--manual_dir={}"],
    ["train", DIGITS, "--workdir=x", "--config.data.data_dir={}"],
    ["train", DIGITS, "--workdir=x", "--config.data.cache_dir={}"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words))
def test_every_command_refuses_a_url(words, tmp_path, monkeypatch, capsys):
    (tmp_path / "configs").symlink_to(os.path.abspath("configs"))
    monkeypatch.chdir(tmp_path)
    assert main([word.format("s3://bucket/run") for word in words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "s3://bucket/run" in line
    assert "URL" in line or "mounted" in line
    assert os.listdir(tmp_path) == ["configs"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_is_a_url(scheme):
    with pytest.raises(UserError, match="is a URL"):
        local_path("--workdir")(f"{scheme}://bucket/run")
    assert not is_url(f"./{scheme}:/run")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("", "is empty"),
        ("a\0b", "NUL"),
        ("\ud800", "no file name can have"),
        ("new/" + "x" * 256, "a name of 256 bytes; the file system allows 255"),
        ("é" * 128, "a name of 256 bytes"),
        ("/".join(["x" * 200] * 20), "bytes; 3796 can be used"),
    ],
    ids=ascii,
)
def test_an_impossible_path_is_refused(path, said):
    with pytest.raises(UserError, match=said):
        local_path("--workdir")(path)


@given(st.binary(min_size=1, max_size=255).filter(lambda name: not set(name) & {0, ord("/")}))
def test_every_other_name_is_taken_as_it_is(name):
    text = os.fsdecode(name)
    assert local_path("--workdir")(text) == text
    assert local_path("--workdir")(f"../{text}/") == f"../{text}/"


def test_a_bucket_for_tfds_is_left_to_it():
    from resnet_jax.config import default_config, override

    fields = {"data.data_dir": "gs://tfds-data/datasets"}
    assert override(default_config(), fields).data.data_dir == fields["data.data_dir"]


def test_a_variable_that_names_the_cache_may_not_be_a_url(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RESNET_JAX_CACHE", "gs://cache")
    assert main(["train", DIGITS, f"--workdir={tmp_path}/run"]) == 2
    assert capsys.readouterr().err.startswith("error: $RESNET_JAX_CACHE = 'gs://cache': is a URL")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["100%", "a\\b", "a\nb", "caf\udce9"], ids=ascii)
def test_slurm_gets_no_directory_that_it_misreads(tmp_path, name):
    directory = SweepDirectory(tmp_path / name)
    with pytest.raises(UserError, match="which Slurm misreads"):
        SweepOptions(executor="slurm").check(directory)
    SweepOptions().check(directory)
    SweepOptions(executor="slurm").check(SweepDirectory(tmp_path / "it's [1] #2 $x"))
