"""The command that runs all benchmarks: its rows exist, and its tables say what was measured."""

import importlib
import json
import shlex
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import run


@pytest.mark.parametrize("command", sorted({row.command for row in run.ROWS}))
def test_options_of_every_row_exist(command, monkeypatch):
    script, *words = shlex.split(command)
    monkeypatch.setattr(sys, "argv", [script, *words])
    importlib.import_module(f"benchmarks.{script.removesuffix('.py')}").parse_arguments()


@pytest.fixture
def fixed(monkeypatch):
    """Two commands that print the same each time, one of which fails; returns rows of theirs."""

    def run_command(command):
        if command == "broken":
            return [], "ValueError: no"
        return [{"ratio": {"median": 1.5, "min": 1.0, "max": 1.75, "n": 3}, "torch": None}], None

    monkeypatch.setattr(run, "run_command", run_command)
    return (
        run.Row("high", "what", "ratio", "≥ 2", "works", run.at("ratio")),
        run.Row("low", "what", "ratio", "≤ 1.5", "works", run.at("ratio")),
        run.Row("free", "what", "ratio", None, "works", run.at("ratio")),
        run.Row("absent", "what", "ratio", "≥ 1", "works", run.at("torch")),
        run.Row("renamed", "what", "ratio", "≥ 1", "works", run.at("other")),
        run.Row("failed", "what", "ratio", "≥ 1", "broken", run.at("ratio")),
    )


def test_rows_say_whether_their_target_holds(fixed):
    rows = run.measure(fixed, lambda line: None)["rows"]
    assert [row["holds"] for row in rows] == [False, True, None, None, None, None]
    assert [bool(row["error"]) for row in rows] == [False] * 4 + [True] * 2


def test_tables(fixed):
    new = run.measure(fixed, lambda line: None)
    lines = run.table(new).splitlines()
    assert lines[2].startswith("| high | what | 1.5 (1–1.75) | 3 | ratio | ≥ 2 | no |")
    assert "not measured" in lines[5]
    assert "ValueError: no" in lines[7]
    old = json.loads(json.dumps(new))
    old["rows"][0] |= {"median": 0.5, "min": 0.4, "max": 0.6}
    high, low, free = run.comparison(old, new).splitlines()[2:]
    assert high == "| high | ratio | 0.5 (0.4–0.6) | 1.5 (1–1.75) | 3 | apart |"
    assert low == "| low | ratio | 1.5 (1–1.75) | 1.5 (1–1.75) | 1 | overlap |"
    assert free.startswith("| free |")


@pytest.mark.parametrize("option", ["--compare=absent.json", "--out=absent/new.json", "--only=no"])
def test_what_cannot_be_used_is_told_before_anything_runs(option, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["run.py", option])
    with pytest.raises(SystemExit) as stopped:
        run.main()
    assert stopped.value.code == 2
    assert "absent" in capsys.readouterr().err or option == "--only=no"
