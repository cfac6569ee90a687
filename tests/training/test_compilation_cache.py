"""Compiled programs are found again, in a directory of any name."""

import os
import subprocess
import sys

import pytest

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
