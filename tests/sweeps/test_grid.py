"""Studies as lists of overrides, against itertools and the laws of products."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnet_jax.errors import UserError
from resnet_jax.sweeps.grid import chain, product, zip_

names = st.text("abcdef", min_size=1, max_size=4)
axes = st.dictionaries(names, st.lists(st.integers(), max_size=4), max_size=4)


@given(axes)
def test_a_product_of_fields_is_that_of_itertools(axis_values):
    expected = [
        dict(zip(axis_values, values, strict=True))
        for values in itertools.product(*axis_values.values())
    ]
    assert product(axis_values) == expected


@given(axes, axes)
def test_the_size_of_a_product_is_the_product_of_the_sizes(one, other):
    assert len(product(one, other)) == len(product(one)) * len(product(other))
    assert chain(one, other) == product(one) + product(other)


@given(axes)
def test_products_of_overrides_and_of_fields_are_the_same(axis_values):
    parts = [[{name: value} for value in values] for name, values in axis_values.items()]
    assert product(*parts) == product(axis_values)


def test_zip_goes_in_step():
    together = zip_({"a": (1, 2), "b": (3, 4)}, [{"c": 5}, {"c": 6}])
    assert together == [{"a": 1, "b": 3, "c": 5}, {"a": 2, "b": 4, "c": 6}]
    with pytest.raises(UserError, match="same number of values"):
        zip_({"a": (1, 2), "b": (3,)})


def test_parts_are_not_changed_and_later_fields_win():
    base = [{"a": 1}]
    assert product(base, {"a": (2,)}) == [{"a": 2}]
    assert base == [{"a": 1}]


def test_a_study_of_too_many_runs_is_refused_at_once():
    endless = itertools.count()
    for parts in (
        [{"seed": range(10**9)}],
        [{"seed": endless}],
        [{"seed": range(1000), "model.depth": range(1000)}],
    ):
        with pytest.raises(UserError, match="too many values|more than 100,000 runs"):
            product(*parts)
    with pytest.raises(UserError, match="more than 100,000 runs"):
        product({"seed": range(1000)}, {"model.depth": range(1000)})
