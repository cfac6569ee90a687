"""Fixtures of torch's own networks."""

import sys
from pathlib import Path

import pytest


@pytest.fixture
def torch_resnet():
    """`benchmarks.torch_resnet.torch_resnet`, which is no part of the package."""
    pytest.importorskip("torch")
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from benchmarks.torch_resnet import torch_resnet

    return torch_resnet
