"""When something is due."""

from hypothesis import given
from hypothesis import strategies as st

from resnet_jax.training.intervals import is_due, next_due

INTERVALS = st.floats(1, 50, allow_nan=False)


@given(INTERVALS, st.integers(1, 60))
def test_due_steps_are_the_multiples_to_the_nearest_step(interval, times):
    due = [step for step in range(1, 400) if is_due(step, interval)]
    assert due == sorted({round(k * interval) for k in range(1, 400)} & set(range(1, 400)))
    assert is_due(round(times * interval), interval)


@given(INTERVALS, st.integers(0, 300))
def test_next_due_is_the_first_due_step_behind(interval, step):
    following = next_due(step, interval)
    assert following > step
    assert is_due(following, interval)
    assert not any(is_due(between, interval) for between in range(step + 1, following))
