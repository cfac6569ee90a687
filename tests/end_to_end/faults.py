"""Faults, done to real runs by real signals and real damage, and what came of them.

    python tests/end_to_end/faults.py --out=docs/reliability.md

Each fault is a function of an empty directory: it does what its docstring says, asserts what must
come of it and returns what did. `test_faults.py` runs the same functions.
"""

import argparse
import os
import platform
import signal
import sys
import tempfile
from pathlib import Path

import pytest

from resnet_jax.compiler import turn_off_ynnpack

turn_off_ynnpack()
sys.path[:0] = map(str, Path(__file__).parents[:2])

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
from faults_by_strangers import (
    links_in_report_and_analysis,
    received_compiled_programs,
    received_paths,
    run_ids_that_lead_outside,
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
from faults_of_output import (
    no_inodes_left,
    no_shared_memory,
    signals_of_schedulers,
    signals_to_the_processes_that_decode,
    standard_output_closed_and_full,
    terminal_closed,
)
from faults_of_power import (
    disk_turns_read_only,
    power_cut_after_the_end,
    power_cuts_at_random_moments,
)
from faults_of_processes import (
    file_size_limit_of_one_process,
    no_write_permission_in_one_process,
    other_data_in_one_process,
    stopped_process,
    wrong_coordinator,
)
from faults_of_use import (
    clock_jumps,
    config_edited,
    divergence,
    evaluate_during_retention,
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
    terminal_closed,
    disk_full,
    no_inodes_left,
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
    power_cut_after_the_end,
    received_compiled_programs,
    received_paths,
    links_in_report_and_analysis,
    run_ids_that_lead_outside,
    images_that_claim_too_many_pixels,
    images_that_are_no_files,
    odd_run_in_a_report,
    truncated_log,
)
SLOW = (
    signals_of_schedulers,
    standard_output_closed_and_full,
    zip_bomb_as_weights,
    sigkill_at_random_moments,
    signals_to_the_processes_that_decode,
    no_shared_memory,
    power_cuts_at_random_moments,
    disk_turns_read_only,
    evaluate_during_retention,
    ten_thousand_steps,
    ten_thousand_steps_with_saves,
)
# In pytest these run in `test_hosts.py` and `test_faults_of_processes.py`.
HOSTS = (
    sigterm_to_one_of_two_processes,
    sigkill_to_one_of_two_processes,
    file_size_limit_of_one_process,
    no_write_permission_in_one_process,
    other_data_in_one_process,
    wrong_coordinator,
    stopped_process,
)
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
    done = fault.__doc__.replace("|", "\\|")
    return f"| {title(fault)} | {done} | {happened} | {codes} | {lost} |"


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
    # A shell without job control starts what ends in `&` with Ctrl-C ignored, `nohup` with the other.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
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
