"""Compiled programs are found again, in a directory of any name, and taken from the user's own alone."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from resnet_jax.config import Config, override
from resnet_jax.training.compilation_cache import keep_compiled_programs
from resnet_jax.training.run_directory import RunDirectory

PROGRAM = """
import sys
from resnet_jax.config import default_config
from resnet_jax.training.compilation_cache import keep_compiled_programs
others = [open("/dev/null") for _ in range(int(sys.argv[2]))]
config = default_config()
config.data.cache_dir = sys.argv[1]
keep_compiled_programs(config)
import jax
jax.jit(lambda x: x * 2 + 1)(1.0).block_until_ready()
"""


@pytest.mark.parametrize("name", ["[1] *?", "caf\udce9"], ids=ascii)
def test_a_second_process_finds_the_programs_of_the_first(tmp_path, name):
    directory = tmp_path / name
    found = []
    # However many files the process has open.
    for files in ("0", "20"):
        words = [sys.executable, "-c", PROGRAM, directory, files]
        environment = os.environ | {"XLA_FLAGS": ""}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        subprocess.run(words, check=True, env=environment)
        found.append(sorted(path.name for path in (directory / "compiled").glob("*-cache")))
    assert found[0]
    assert found[1] == found[0]


@pytest.fixture
def starts():
    """As in a process that has not looked for compiled programs yet."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.mark.usefixtures("starts")
def test_no_programs_are_kept_where_others_can_put_theirs(tmp_path, capsys):
    (tmp_path / "cache" / "compiled").mkdir(parents=True)
    (tmp_path / "cache").chmod(0o777)
    config = override(Config(), {"data.cache_dir": str(tmp_path / "cache")})
    keep_compiled_programs(config)
    assert jax.config.jax_compilation_cache_dir is None
    said = f"others can write to {tmp_path}/cache; run `chmod go-w {tmp_path}/cache`"
    assert capsys.readouterr().err == f"warning: compiled programs are not kept on disk: {said}\n"


@pytest.mark.usefixtures("starts")
def test_without_a_home_directory_no_programs_are_kept(monkeypatch, capsys):
    def no_home(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("RESNET_JAX_CACHE")
    monkeypatch.setattr(Path, "expanduser", no_home)
    keep_compiled_programs(Config())
    assert jax.config.jax_compilation_cache_dir is None
    assert "$RESNET_JAX_CACHE = '~/.cache/resnet_jax': begins in a home" in capsys.readouterr().err


@pytest.mark.usefixtures("starts")
def test_programs_are_not_taken_from_the_directory_that_a_received_run_names(tmp_path):
    run = RunDirectory(tmp_path / "run")
    config = override(Config(), {"data.cache_dir": str(tmp_path / "cache")})
    run.create(config.to_dict())
    (run.path / ".origin").unlink()
    keep_compiled_programs(run.load_config({}))
    assert jax.config.jax_compilation_cache_dir == os.environ["RESNET_JAX_CACHE"] + "/compiled"
    assert not (tmp_path / "cache").exists()
    jax.config.update("jax_compilation_cache_dir", None)
    run.create(config.to_dict())
    keep_compiled_programs(run.load_config({}))
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "cache" / "compiled")
