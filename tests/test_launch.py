"""`launch.py` under a Python that cannot run it: one line, exit code 2."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OLD = "import runpy, sys; sys.version_info = (3, 9, 18); sys.argv = {!r}; runpy.run_path(sys.argv[0], run_name='__main__')"


@pytest.fixture
def checkout(tmp_path):
    """A checkout, without what `make train` makes."""
    for name in ("launch.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "resnet_jax").symlink_to(ROOT / "resnet_jax")
    return tmp_path


def ended(directory, *options):
    """What Python prints that sees no installed packages."""
    words = [sys.executable, "-E", "-s", "-S", *options]
    done = subprocess.run(words, cwd=directory, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    return done.stderr


@pytest.mark.parametrize("made", [False, True])
def test_a_python_without_the_dependencies_is_told_in_one_line(checkout, made):
    if made:
        (checkout / ".venv" / "bin").mkdir(parents=True)
        (checkout / ".venv" / "bin" / "python").touch()
    line = ended(checkout, "launch.py", "train", "--config=configs/digits.py")
    fix = (
        "`make train` made .venv, so use"
        if made
        else "run `make train` once, which makes .venv, then"
    )
    assert line.startswith(f"error: {sys.executable} lacks jax, flax, optax and ")
    assert line.endswith(f" more; {fix} .venv/bin/python launch.py train ...\n")


def test_a_python_that_is_too_old_is_told_in_one_line(checkout):
    line = ended(checkout, "-c", OLD.format(["launch.py", "train"]))
    assert ", and 3.11 or newer is needed; run `make train` once" in line


def test_launch_parses_under_an_old_python():
    ast.parse((ROOT / "launch.py").read_text(), feature_version=(3, 6))
