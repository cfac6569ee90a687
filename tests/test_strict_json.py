"""JSON that every reader takes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnet_jax.strict_json import from_json, is_finite, to_json

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
TREES = st.recursive(
    SCALARS, lambda t: st.lists(t, max_size=3) | st.dictionaries(st.text(max_size=2), t, max_size=3)
)


def refuse(constant):
    raise ValueError(f"{constant} is not JSON")


@given(TREES)
def test_what_is_written_is_json_or_refused(tree):
    if is_finite(tree):
        assert json.loads(to_json(tree), parse_constant=refuse) == tree
    else:
        with pytest.raises(ValueError, match="not JSON compliant"):
            to_json(tree)


def test_deep_json_is_refused():
    for depth in (33, 500, 10**6):
        with pytest.raises(ValueError, match="nested too deeply"):
            from_json("[" * depth + "1" + "]" * depth)
    assert from_json("[" * 32 + "1" + "]" * 32)
