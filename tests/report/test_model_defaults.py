"""What a report, which imports no JAX, takes for a field that is None is what the networks take."""

import jax
import numpy as np
import pytest
from flax import nnx

from resnet_jax import models
from resnet_jax.config import FIELDS
from resnet_jax.plotting.labels import FIELD_LABELS, VALUE_LABELS
from resnet_jax.report import reference

DEPTHS = {"cifar": 8, "wide": 10}
SHORTCUTS = {
    "gate_bias": "exclusive_gating",
    "shortcut_scale": "constant_scaling",
    "branch_scale": "constant_scaling",
    "shortcut_dropout": "dropout",
}


def same(family, first, second):
    """Whether two networks have the same structure, and the same arrays from the same seed."""
    networks = [
        models.resnet(family, DEPTHS[family], rngs=nnx.Rngs(0), **f) for f in (first, second)
    ]
    graphs, states = zip(*map(nnx.split, networks), strict=True)
    leaves = [jax.tree.leaves(nnx.to_pure_dict(state)) for state in states]
    equal = len(leaves[0]) == len(leaves[1]) and all(map(np.array_equal, *leaves))
    return graphs[0] == graphs[1] and equal


@pytest.mark.parametrize("family", reference.FAMILY_DEFAULTS)
def test_none_is_the_same_in_a_family(family):
    defaults = reference.FAMILY_DEFAULTS[family]
    assert same(family, {}, defaults)
    others = {"shortcut": "C", "activation_order": "relu_before_addition", "stem": "imagenet"}
    for name, other in others.items():
        assert not same(family, {}, defaults | {name: other}), name


@pytest.mark.parametrize("name", reference.FIELD_DEFAULTS)
def test_none_is_the_same_in_a_shortcut(name):
    shortcut, value = {"shortcut": SHORTCUTS[name]}, reference.FIELD_DEFAULTS[name]
    assert same("cifar", shortcut, shortcut | {name: value})
    assert not same("cifar", shortcut, shortcut | {name: value / 2})


def test_lists_of_fields_name_fields():
    names = {*reference.ELSEWHERE, *(f"model.{name}" for name in reference.HOW)}
    names |= {f"model.{name}" for one in reference.REFERENCES for name in one.model}
    names |= {name for one in reference.REFERENCES for name in one.recipe}
    names |= {*FIELD_LABELS, *VALUE_LABELS} - {"steps trained"}
    assert names <= set(FIELDS)
