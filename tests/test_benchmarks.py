"""The command that runs all benchmarks: its rows exist, and its tables say what was measured; what other benchmarks reckon."""

import gzip
import importlib
import json
import shlex
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import floor, operations, run
from benchmarks.seconds_to_accuracy import summary_with_mean


@pytest.mark.parametrize("command", sorted({row.command for row in run.ROWS}))
def test_options_of_every_row_exist(command, monkeypatch):
    script, *words = shlex.split(command)
    monkeypatch.setattr(sys, "argv", [script, *words])
    importlib.import_module(f"benchmarks.{script.removesuffix('.py')}").parse_arguments()


@pytest.fixture
def fixed(monkeypatch):
    """Two commands that print the same each time, one of which fails; returns rows of theirs."""

    def run_command(command):
        if command == "slow":
            return [{"depth": 20, "given_up_after_s": 100.0}], None
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
        run.Row("given_up", "what", "ratio", "≥ 1", "slow", run.memory_ratio),
        run.Row("zero", "what", "ratio", "≥ 1", "works", lambda printed: 1 / 0),
        run.Row("no_object", "what", "ratio", "≥ 1", "works", run.at("torch", "median")),
    )


def test_rows_say_whether_their_target_holds(fixed):
    rows = run.measure(fixed, lambda result: None)["rows"]
    assert [row["holds"] for row in rows] == [False, True] + [None] * 7
    assert [bool(row["error"]) for row in rows] == [False] * 4 + [True] * 5


def test_tables(fixed):
    new = run.measure(fixed, lambda result: None)
    lines = run.table(new).splitlines()
    assert lines[2].startswith("| high | what | 1.5 (1–1.75) | 3 | ratio | ≥ 2 | no |")
    assert "not measured" in lines[5]
    assert "ValueError: no" in lines[7]
    old = json.loads(json.dumps(new))
    old["rows"][0] |= {"median": 0.5, "min": 0.4, "max": 0.6}
    old["rows"][2] |= {"median": 0.5, "min": 0.5, "max": 0.5, "command": "another"}
    high, low, free = run.comparison(old, new).splitlines()[2:]
    assert high == "| high | ratio | 0.5 (0.4–0.6) | 1.5 (1–1.75) | 3 | apart |"
    assert low == "| low | ratio | 1.5 (1–1.75) | 1.5 (1–1.75) | 1 | overlap |"
    assert free == "| free | ratio | 0.5 | 1.5 (1–1.75) | other command |  |"


def test_each_row_is_written_as_soon_as_it_is_there(fixed, tmp_path, monkeypatch):
    out = tmp_path / "new.json"
    monkeypatch.setattr(run, "ROWS", fixed[:2])
    monkeypatch.setattr(sys, "argv", ["run.py", f"--out={out}"])
    monkeypatch.setattr(run, "table", lambda result: f"{len(result['rows'])} rows")
    written = []
    monkeypatch.setattr(Path, "write_text", lambda path, text: written.append((path.name, text)))
    assert run.main() == 0
    lengths = [len(json.loads(text)["rows"]) for name, text in written if name == "new.json"]
    assert lengths == [1, 2]
    assert [text for name, text in written if name == "new.md"] == ["1 rows", "2 rows"]


def test_operations_are_told_by_call_of_the_loop(tmp_path, monkeypatch, capsys):
    """Two calls of 3 ms and 1 ms; the dumped program is read once for its two operations."""
    event = {"ph": "X", "dur": 0}
    operation = {"ph": "X", "args": {"hlo_module": "jit_train", "hlo_op": "dot.1"}}
    other = {"ph": "X", "name": "b", "dur": 1000, "args": operation["args"] | {"hlo_op": "add.2"}}
    events = [event | {"name": "train"}, event | {"name": "train"}, other]
    events += [operation | {"name": "a", "dur": dur} for dur in (3000, 1000)]
    trace = json.dumps({"traceEvents": events}).encode()
    (tmp_path / "host.trace.json.gz").write_bytes(gzip.compress(trace))
    dumped = "  %dot.1 = f32[2] dot(a, b)\n  ROOT %add.2 = f32[2] add(a, b)\n"
    (tmp_path / "module_1.jit_train.cpu_after_optimizations.txt").write_text(dumped)
    read, instructions = [], operations.instructions

    def counted(folder, program):
        read.append(program)
        return instructions(folder, program)

    monkeypatch.setattr(operations, "instructions", counted)
    monkeypatch.setattr(sys, "argv", ["operations.py", str(tmp_path), f"--hlo={tmp_path}"])
    operations.main()
    first, dot, add = capsys.readouterr().out.splitlines()
    assert first.startswith("      2.50 ms in a call of the loop")
    assert dot == "      2.00 ms    1.0 ×  dot.1  f32[2] dot(a, b)"
    assert add == "      0.50 ms    0.5 ×  add.2  f32[2] add(a, b)"
    assert read == ["jit_train"]


def test_operations_are_summed_by_kind(tmp_path, monkeypatch, capsys):
    """By names that XLA gave them on a CPU."""
    milliseconds = {
        "ffi_call.7__onednn$convolution": 5,
        "convolution.3": 1,
        "ffi_call.12__onednn$matmul": 2,
        "ynn_fusion.4": 4,
        "transpose_copy_fusion.1": 3,
        "copy_bitcast_fusion": 2,
        "broadcast_subtract_fusion": 3,
    }
    events = [
        {"ph": "X", "name": name, "dur": 1000 * spent, "args": {"hlo_op": name}}
        for name, spent in milliseconds.items()
    ]
    trace = json.dumps({"traceEvents": events}).encode()
    (tmp_path / "host.trace.json.gz").write_bytes(gzip.compress(trace))
    monkeypatch.setattr(sys, "argv", ["operations.py", str(tmp_path), "--kinds", "--most=0"])
    operations.main()
    assert [line.split() for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["6.00", "ms", "2.0", "×", "all", "convolutions", "(30%)"],
        ["2.00", "ms", "1.0", "×", "all", "products", "(10%)"],
        ["4.00", "ms", "1.0", "×", "all", "sums", "(20%)"],
        ["5.00", "ms", "2.0", "×", "all", "transposes", "(25%)"],
        ["3.00", "ms", "1.0", "×", "all", "the", "rest", "(15%)"],
    ]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_all_ways_to_take_a_step_begin_with_the_same_loss(mode):
    words = "--batch_size=4 --image_size=8 --steps=1 --repeats=1 --against torch pmap nnx"
    printed, error = run.run_command(f"train_step.py --mode={mode} {words}")
    assert error is None
    losses = printed[0]["first_loss"]
    assert losses.keys() >= {"ours", "pmap", "nnx"}
    assert max(losses.values()) == pytest.approx(min(losses.values()), rel=1e-4)
    assert printed[0]["pmap_over_ours"]["n"] == printed[0]["nnx_over_ours"]["n"] == 1


def test_a_step_takes_as_long_as_the_rate_of_a_product_says(monkeypatch, capsys):
    words = "--size=64 --mib=1 --repeats=1 --model=resnet20 --batch_size=2"
    monkeypatch.setattr(sys, "argv", ["floor.py", *words.split()])
    floor.main()
    found = json.loads(capsys.readouterr().out)
    # He 2015: 40.8 million multiply-adds an image; two operations each, three passes, two images.
    assert found["gflop_a_step"] == pytest.approx(12 * 0.0408, rel=0.02)
    rate = found["fastest_gflop_per_second"]["median"]
    assert found["seconds_a_step"] == pytest.approx(found["gflop_a_step"] / rate, rel=0.01)
    assert found["images_per_second"] == pytest.approx(2 / found["seconds_a_step"], rel=0.01)


def test_deviation_of_one_value_is_none():
    assert summary_with_mean([0.5])["std"] is None
    found = summary_with_mean([1.0, 2.0, 6.0])
    assert (found["mean"], found["median"], found["n"]) == (3, 2, 3)
    assert found["std"] == pytest.approx(7**0.5)


@pytest.mark.parametrize("option", ["--compare=absent.json", "--out=absent/new.json", "--only=no"])
def test_what_cannot_be_used_is_told_before_anything_runs(option, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["run.py", option])
    with pytest.raises(SystemExit) as stopped:
        run.main()
    assert stopped.value.code == 2
    assert "absent" in capsys.readouterr().err or option == "--only=no"
