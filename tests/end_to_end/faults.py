"""Faults, done to real runs by real signals and real damage, and what came of them.

    python tests/end_to_end/faults.py --out=docs/reliability.md

Each fault is a function of an empty directory: it does what its docstring says, asserts what must
come of it and returns what did. `test_faults.py` runs the same functions.
"""

import argparse
import os
import platform
import sys
import tempfile
from pathlib import Path

import pytest

from resnet_jax.compiler import turn_off_ynnpack

turn_off_ynnpack()
sys.path.insert(0, str(Path(__file__).parent))

from faults_by_signals import (
    ctrl_c,
    evaluate_is_killed,
    sigkill_at_random_moments,
    sigkill_during_saves,
    sigkill_to_one_of_two_processes,
    sigterm_before_the_first_step,
    sigterm_during_an_evaluation,
    sigterm_to_one_of_two_processes,
    sigterm_while_training,
)
from faults_of_bombs import (
    images_that_are_no_files,
    images_that_claim_too_many_pixels,
    odd_run_in_a_report,
    truncated_log,
    zip_bomb_as_weights,
)
from faults_of_files import (
    all_checkpoints_damaged,
    checkpoint_of_another_model,
    damaged_config,
    damaged_status_and_log,
    disk_full,
    empty_checkpoint,
    file_size_limit,
    flipped_bit,
    missing_metadata,
    missing_shard,
    read_only_directory,
    truncated_checkpoint,
)
from faults_of_use import (
    clock_jumps,
    config_edited,
    divergence,
    file_in_place_of_a_directory,
    ten_thousand_steps,
    ten_thousand_steps_with_saves,
    two_processes,
)
from faulty_runs import Outcome

QUICK = (
    sigterm_before_the_first_step,
    sigterm_while_training,
    ctrl_c,
    sigterm_during_an_evaluation,
    evaluate_is_killed,
    sigkill_during_saves,
    disk_full,
    file_size_limit,
    read_only_directory,
    truncated_checkpoint,
    flipped_bit,
    missing_shard,
    empty_checkpoint,
    missing_metadata,
    all_checkpoints_damaged,
    checkpoint_of_another_model,
    damaged_config,
    damaged_status_and_log,
    two_processes,
    config_edited,
    file_in_place_of_a_directory,
    clock_jumps,
    divergence,
    images_that_claim_too_many_pixels,
    images_that_are_no_files,
    odd_run_in_a_report,
    truncated_log,
)
SLOW = (
    zip_bomb_as_weights,
    sigkill_at_random_moments,
    ten_thousand_steps,
    ten_thousand_steps_with_saves,
)
# In pytest these run where they are written, `test_hosts.py`.
HOSTS = (sigterm_to_one_of_two_processes, sigkill_to_one_of_two_processes)
BEGIN, END = "<!-- faults.py begins -->", "<!-- faults.py ends -->"
HEAD = ["| fault | what was done | what happened | exit codes | steps lost |", "|---" * 5 + "|"]


def row(fault):
    """Do a fault; returns its row of the table."""
    with tempfile.TemporaryDirectory() as directory:
        try:
            outcome = fault(Path(directory))
        except pytest.skip.Exception as reason:
            outcome = Outcome(f"left out: {reason}", [])
    codes = " ".join(map(str, dict.fromkeys(outcome.exit_codes)))
    lost = "–" if outcome.steps_lost is None else outcome.steps_lost
    happened = outcome.happened.replace(directory, "…").replace("|", "\\|")
    return f"| {title(fault)} | {fault.__doc__} | {happened} | {codes} | {lost} |"


def title(fault):
    return fault.__name__.replace("_", " ")


def with_rows(page, rows):
    """The text of a page whose table has these rows, by title, in place of those of the same titles."""
    before, begin, rest = page.partition(BEGIN)
    table, end, after = rest.partition(END)
    assert begin, f"no {BEGIN} there"
    assert end, f"no {END} there"
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in lines} | rows
    titles = [title(fault) for fault in (*QUICK, *SLOW, *HOSTS)]
    ordered = [rows[name] for name in titles if name in rows]
    return "\n".join([before + begin, f"Machine: {machine()}.", "", *HEAD, *ordered, end + after])


def machine():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} × {names[0] if names else platform.machine()}, no accelerator"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", help="names of faults; without it all are done")
    parser.add_argument("--out", type=Path, help="a page whose rows are replaced")
    arguments = parser.parse_args()
    # Several processes are compared with one of eight devices, this one.
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
    turn_off_ynnpack()
    for fault in (*QUICK, *SLOW, *HOSTS):
        if arguments.only is not None and fault.__name__ not in arguments.only:
            continue
        line = row(fault)
        print(line, flush=True)
        if arguments.out:
            page = arguments.out.read_text()
            arguments.out.write_text(with_rows(page, {title(fault): line}))


if __name__ == "__main__":
    main()
