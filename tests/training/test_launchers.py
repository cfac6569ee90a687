"""Who runs this command alone and who with others, from options and environment variables."""

import pytest

from resnet_jax.errors import UserError
from resnet_jax.training.launchers import Processes, find_processes

# What a shell of salloc, a batch script and a task of srun see of a job of four tasks.
SALLOC = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"}
BATCH = SALLOC | {"SLURM_PROCID": "0", "SLURM_STEP_ID": "4294967291"}
STEP = SALLOC | {"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        (SALLOC, None),
        (BATCH, None),
        (STEP | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, None),
        (STEP, Processes()),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}, Processes()),
        ({"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"}, None),
    ],
)
def test_a_launcher_is_recognised_by_its_variables(environment, expected):
    assert find_processes(None, None, None, environment) == expected


def test_a_slice_of_tpus_is_recognised_where_libtpu_is(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    for hosts, expected in (("a,b", Processes()), ("a", None)):
        assert find_processes(None, None, None, {"TPU_WORKER_HOSTNAMES": hosts}) == expected


def test_options_say_it_where_no_launcher_does():
    assert find_processes("host:1234", 4, 2, {}) == Processes("host:1234", 4, 2)
    # Open MPI 5 does not say where process 0 is, so only that need be given.
    ranks = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}
    assert find_processes("host:1234", None, None, ranks) == Processes("host:1234", 2, 1)
    assert find_processes(None, 1, None, STEP) is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("host:1", 2, None), "belong together"),
        ((None, 2, 0), "--coordinator = None: is missing"),
        (("host", 2, 0), "write HOST:PORT"),
        ((":1", 2, 0), "write HOST:PORT"),
        (("host:0", 2, 0), "a port from 1 to 65535"),
        (("host:65536", 2, 0), "a port from 1 to 65535"),
        (("host:1", 2, 2), "must be from 0 to 1"),
        (("host:1", 0, 0), "must be at least 1"),
        (("host:1", None, None), "needs --num_processes"),
    ],
)
def test_contradictions_are_one_clear_line(options, words):
    with pytest.raises(UserError, match=words) as error:
        find_processes(*options, {})
    assert "\n" not in str(error.value)
