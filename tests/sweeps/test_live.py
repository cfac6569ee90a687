"""The live table, on run directories as training writes them."""

import io
import re
import time

import pytest
from rich.console import Console

from resnet_jax.run_states import PENDING, STATES
from resnet_jax.sweeps.live import STYLES, LiveTable, RunView, duration
from resnet_jax.sweeps.sweep_directory import SweepDirectory


@pytest.fixture
def directory(tmp_path):
    return SweepDirectory(tmp_path / "sweep")


def write(directory, run_id, state, step=0, total=100, **facts):
    run = directory.run(run_id)
    run.path.mkdir(parents=True, exist_ok=True)
    run.write_status(state, step, total, **facts)
    return run


def terminal(height=24, width=100):
    return Console(
        file=io.StringIO(), force_terminal=True, width=width, height=height, color_system=None
    )


def pipe():
    return Console(file=io.StringIO(), force_terminal=False, width=60)


def shown(table):
    """The lines of the table as they stand on the terminal."""
    console = terminal(table.console.height, table.console.width)
    console.print(table.render())
    return console.file.getvalue().rstrip("\n").split("\n")


def tick(table):
    time.sleep(0.55)
    table.tick()


def test_row_of_a_run(directory):
    run = write(directory, "depth=20", "running", 50, seconds=60.0)
    run.log("eval", 40, epoch=1.0, loss=0.9, accuracy=0.8125)
    run.log("train", 50, epoch=1.2, loss=0.25, accuracy=0.9)
    with LiveTable(directory, ["depth=20"], console=terminal()) as table:
        row = next(line for line in shown(table) if "depth=20" in line)
    cells = [cell.strip() for cell in re.split("[│┃]", row)[1:-1]]
    assert cells == ["depth=20", "running", "50/100", "0.2500", "81.25%", "60 s"]


def test_long_metrics_are_read_from_their_end(directory):
    run = write(directory, "one", "running", 5000)
    for step in range(1, 5001):
        run.log("train", step, epoch=1.0, loss=1 / step, accuracy=0.5)
    view = RunView(run)
    view.refresh()
    assert view.loss == 1 / 5000
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"event": "train", "step": 5001, "lo')
    view.refresh()
    assert view.loss == 1 / 5000


def test_files_that_did_not_change_are_not_read(directory, monkeypatch):
    run = write(directory, "one", "running", 1)
    view = RunView(run)
    view.refresh()
    monkeypatch.setattr(run, "read_status", lambda: pytest.fail("read again"))
    view.refresh()
    monkeypatch.undo()
    write(directory, "one", "done", 100)
    view.refresh()
    assert (view.state, view.step) == ("done", 100)


@pytest.mark.parametrize("height", [12, 24, 50])
def test_200_runs_fit_with_what_matters_first(directory, height):
    runs = [f"run-{index:03}" for index in range(200)]
    for run_id in runs[:50]:
        write(directory, run_id, "done", 100, seconds=10.0)
    write(directory, runs[50], "running", 10, seconds=1.0)
    write(directory, runs[51], "failed", 3, error="no room")
    with LiveTable(directory, runs, console=terminal(height)) as table:
        lines = shown(table)
    assert len(lines) < height
    rows = [line for line in lines if "run-" in line]
    assert "run-050" in rows[0]
    assert "run-051" in rows[1]
    assert "run-000" in rows[2]
    done = 50 - (len(rows) - 2)
    assert lines[-2] == f"and {f'{done} done, ' if done else ''}148 pending"
    assert lines[-1].startswith("200 runs: 1 running, 1 failed, 50 done, 148 pending; about ")


def test_narrow_terminal_cuts_the_name_alone(directory):
    name = "model.depth=110,model.shortcut=projection,optimizer.learning_rate=0.1,seed=3"
    write(directory, name, "running", 50, seconds=60.0)
    with LiveTable(directory, [name], console=terminal(width=60)) as table:
        row = next(line for line in shown(table) if "model" in line)
    assert re.search(r" model.*….*seed=3 ", row)
    assert len(row) <= 60
    assert "running" in row
    assert "60 s" in row


def test_time_left_counts_those_waiting_by_cost_and_those_at_once(directory):
    write(directory, "small", "done", 100, seconds=60.0)
    write(directory, "a", "running", 50, seconds=30.0)
    write(directory, "b", "running", 50, seconds=30.0)
    runs, costs = ["small", "a", "b", "large"], {"small": 1.0, "a": 1.0, "b": 1.0, "large": 10.0}
    with LiveTable(directory, runs, costs, console=terminal()) as table:
        assert table.seconds_left() == pytest.approx((30 + 30 + 600) / 2)
    with LiveTable(directory, runs, console=terminal()) as table:
        assert table.seconds_left() == pytest.approx((30 + 30 + 60) / 2)


def test_nothing_is_said_of_the_time_left_before_a_step_or_after_the_end(directory):
    write(directory, "a", "running")
    with LiveTable(directory, ["a", "b"], console=terminal()) as table:
        assert table.overall() == "2 runs: 1 running, 1 pending"
    write(directory, "a", "done", 100, seconds=5.0)
    write(directory, "b", "failed", 3, seconds=5.0, error="no room")
    with LiveTable(directory, ["a", "b"], console=terminal()) as table:
        assert table.overall() == "2 runs: 1 failed, 1 done"


def test_one_line_a_change_where_there_is_no_terminal(directory):
    write(directory, "old", "done", 100)
    with LiveTable(directory, ["old", "a", "b"], console=pipe()) as table:
        tick(table)
        run = write(directory, "a", "running")
        tick(table)
        run.log("eval", 100, epoch=1.0, loss=0.1, accuracy=0.975)
        write(directory, "a", "done", 100)
        reason = f"its process ended with exit code 1: [red]markup[/red] {'and more ' * 20}"
        write(directory, "b", "failed", 0, total=0, error=reason)
    assert table.console.file.getvalue().split("\n") == [
        "[1/3] a: running",
        "[3/3] a: done  step 100 of 100  accuracy 97.50%",
        f"[3/3] b: failed  {reason}",
        "",
    ]


def test_terminal_keeps_the_table_and_tells_failures_at_the_end(directory):
    write(directory, "old", "failed", 3, error="an old story")
    with LiveTable(directory, ["old", "a"], console=terminal()) as table:
        write(directory, "a", "failed", 7, error="no room for the weights")
    printed = table.console.file.getvalue()
    assert printed.endswith("[2/2] a: failed  step 7 of 100  no room for the weights\n")
    assert "an old story" not in printed
    assert "2 runs: 2 failed" in printed


def test_time_between_refreshes(directory):
    write(directory, "a", "running", 1)
    with LiveTable(directory, ["a"], console=terminal()) as table:
        write(directory, "a", "running", 2)
        table.tick()
        assert table.views["a"].step == 1
        tick(table)
        assert table.views["a"].step == 2


def test_every_state_has_its_place():
    assert set(STYLES) == {*STATES, PENDING}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(7, "7 s"), (89, "89 s"), (125, "2 min"), (3 * 3600 + 290, "3 h 05 min"), (190000, "2 d 4 h")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text
