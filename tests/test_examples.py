"""Every example runs, and what it trains learns."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def falls(losses, to):
    """The mean of the last five losses is below the fraction `to` of the first."""
    return np.isfinite(losses).all() and np.mean(losses[-5:]) < to * losses[0]


def test_a_backbone_in_an_nnx_model_learns():
    assert falls(load("feature_pyramid").main(steps=12), to=0.5)


def test_a_backbone_in_a_linen_model_learns():
    assert falls(load("linen_backbone").main(steps=12), to=0.6)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_residual_builds_a_transformer_that_learns(norm):
    assert falls(load("transformer_block").main(norm, steps=60), to=0.7)


def test_torch_weights_are_transferred_and_fine_tuned(capsys):
    pytest.importorskip("torch")
    losses, before, after = load("transfer_from_torch").main(steps=12, torch_steps=20)
    assert falls(losses, to=0.4)
    assert after > max(before, 0.8)
    assert "frozen layers unchanged: True" in capsys.readouterr().out


def test_the_notebook_runs_from_top_to_bottom():
    # Compiled as for a user, on one device.
    environment = os.environ | {"XLA_FLAGS": ""}
    words = ["-m", "pytest", "--nbmake", "--nbmake-timeout=300", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, *words, "examples/analysis.ipynb"],
        cwd=EXAMPLES.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout


def test_the_notebook_is_kept_without_outputs():
    cells = json.loads((EXAMPLES / "analysis.ipynb").read_text())["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


def test_every_example_is_tested_and_says_how_to_run_it():
    tests = Path(__file__).read_text()
    for path in EXAMPLES.glob("*.py"):
        assert f'load("{path.stem}")' in tests
        assert f"python examples/{path.name}" in path.read_text()
        assert len(path.read_text().splitlines()) <= 150
