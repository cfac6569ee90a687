"""Each fault of `faults.py`; the table in docs/reliability.md is made by the same functions."""

import pytest
from faults import QUICK, SLOW


@pytest.mark.parametrize("fault", QUICK, ids=lambda fault: fault.__name__)
def test_fault(fault, tmp_path):
    fault(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("fault", SLOW, ids=lambda fault: fault.__name__)
def test_long_fault(fault, tmp_path):
    fault(tmp_path)
