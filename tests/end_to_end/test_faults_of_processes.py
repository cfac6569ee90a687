"""Faults of one of several processes; the table in docs/reliability.md is made by the same functions."""

import faults_of_processes as faults
import pytest


@pytest.mark.parametrize(
    "fault",
    [
        faults.other_data_in_one_process,
        faults.wrong_coordinator,
        *(
            pytest.param(fault, marks=pytest.mark.slow)
            for fault in (
                faults.file_size_limit_of_one_process,
                faults.no_write_permission_in_one_process,
                faults.stopped_process,
            )
        ),
    ],
    ids=lambda fault: fault.__name__,
)
def test_fault(fault, tmp_path):
    fault(tmp_path)
