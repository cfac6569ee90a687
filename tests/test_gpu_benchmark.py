"""benchmarks/gpu.py: what its rows say, by commands that only seem to run, and one that does."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import gpu  # noqa: E402
from benchmarks.seconds_to_accuracy import summary_with_mean  # noqa: E402


def make_runner(tmp_path, **fields):
    defaults = {"tiny": False, "iterations": 64_000, "runs": 10, "minutes": 1}
    return gpu.Runner(argparse.Namespace(**(defaults | fields)), tmp_path)


def train_step_result(ours, torch, device="NVIDIA H100 80GB HBM3"):
    speeds = {"ours": ours} | ({"torch": torch} if torch else {})
    return {
        "machine": {"device": device},
        "dtype": "bfloat16",
        "repeats": 7,
        "macs": 4_000_000_000,
        "images_per_second": {
            name: {"median": speed, "min": 0.9 * speed, "max": 1.1 * speed}
            for name, speed in speeds.items()
        },
        "ours_over_torch": {"median": ours / torch, "min": 0.5, "max": 2.0} if torch else None,
    }


def test_train_step_has_ratio_target_and_utilisation(tmp_path, monkeypatch):
    """989e12 FLOP/s over 24e9 FLOP an image are 41,208 images/s."""
    result = train_step_result(10_302, 12_878)
    monkeypatch.setattr(gpu.Runner, "run", lambda *_, **__: json.dumps(result))
    row = gpu.measured(make_runner(tmp_path), gpu.train_step)
    assert row.met is False
    assert "**0.8 (0.5–2)**" in row.measured
    assert "MFU 0.25" in row.measured
    result["machine"]["device"] = "another"
    row = gpu.measured(make_runner(tmp_path), gpu.train_step)
    assert "MFU" not in row.measured


def test_ours_is_measured_alone_where_torch_fails(tmp_path, monkeypatch):
    def run(self, row, words, limit=0, **variables):
        if "torch" in words:
            raise gpu.NotMeasuredError("exit code 1: no compiler")
        return json.dumps(train_step_result(1000, None))

    monkeypatch.setattr(gpu.Runner, "run", run)
    row = gpu.measured(make_runner(tmp_path), gpu.train_step)
    assert (row.met, row.notes[0]) == (None, "with torch: exit code 1: no compiler")
    assert row.measured.startswith("1,000 (900–1,100) images/s; MFU")


@pytest.mark.parametrize(
    ("minutes", "limit", "code", "reason"),
    [
        (1, 60, "import sys; sys.exit('it is | broken')", "exit code 1: it is / broken"),
        (1, 0.01, "import time; time.sleep(60)", "given up after 0 s"),
        (0, 60, "", "not begun: the 0 minutes were over"),
    ],
)
def test_a_row_that_fails_says_why(tmp_path, minutes, limit, code, reason):
    def fill(runner, row):
        row.what = "a row"
        runner.run(row, ["-c", code], limit)

    row = gpu.measured(make_runner(tmp_path, minutes=minutes), fill)
    assert gpu.table([row]).splitlines()[-1] == f"| a row | – | not measured | – | {reason} |"


@pytest.mark.parametrize(
    ("accuracies", "met", "said", "note"),
    [
        ([0.94, 0.95], True, "94.50 ± 0.71% (94.00–95.00)", None),
        ([0.95, None], False, "95.00% (95.00–95.00)", "1 of 2 diverged"),
        ([None, None], False, "", "2 of 2 diverged"),
        ([0.93, 0.94], False, "93.50 ± 0.71% (93.00–94.00)", None),
    ],
)
def test_accuracy_is_not_met_where_a_run_diverged(
    tmp_path, monkeypatch, accuracies, met, said, note
):
    known = [accuracy for accuracy in accuracies if accuracy is not None]
    result = {
        "seconds": summary_with_mean([8.0, 9.0]),
        "accuracy": summary_with_mean(known) if known else None,
        "accuracies": accuracies,
        "seconds_of_the_first": 60.0,
    }
    monkeypatch.setattr(gpu.Runner, "run", lambda *_, **__: json.dumps(result))
    monkeypatch.setattr(gpu, "data_of", lambda *_: "cifar10")
    row = gpu.measured(make_runner(tmp_path, runs=2), gpu.accuracy)
    assert row.met is met
    assert said in row.measured.replace("**", "")
    assert [text for text in row.notes if "diverged" in text] == ([note] if note else [])


def test_iterations_that_were_not_run_are_reckoned_and_said_so(tmp_path, monkeypatch):
    """63,000 iterations of 128 images at 12,800 images/s take 630 s."""
    lines = [
        {"event": "train", "step": 500, "images_per_second": 12_800.0},
        {"event": "train", "step": 1000, "images_per_second": 12_800.0},
        {"event": "eval", "step": 1000, "accuracy": 0.5},
    ]

    def run(self, row, words, limit=0, **variables):
        assert {"--config.train.duration=1000", "--config.log.every=200"} <= set(words)
        (tmp_path / "resnet20").mkdir()
        text = "\n".join(json.dumps(line) for line in lines)
        (tmp_path / "resnet20" / "metrics.jsonl").write_text(text)

    monkeypatch.setattr(gpu.Runner, "run", run)
    monkeypatch.setattr(gpu, "data_of", lambda *_: "synthetic")
    row = gpu.measured(make_runner(tmp_path, iterations=1000), gpu.paper_iterations)
    assert (row.measured, row.met) == ("**630 s, extrapolated**", False)
    assert row.notes[0].startswith("only 1,000 iterations were run")
    for line in lines:
        line.pop("images_per_second", None)
    (tmp_path / "resnet20" / "metrics.jsonl").unlink()
    (tmp_path / "resnet20").rmdir()
    row = gpu.measured(make_runner(tmp_path, iterations=1000), gpu.paper_iterations)
    assert (row.measured, row.met) == ("not measured", None)


def test_without_a_gpu_it_ends_with_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu.Runner, "run", lambda *_: '{"backend": "cpu"}')
    with pytest.raises(SystemExit, match="2"):
        gpu.find_machine(make_runner(tmp_path))
    assert capsys.readouterr().err.count("\n") == 1
    assert gpu.find_machine(make_runner(tmp_path, tiny=True)) == {"backend": "cpu"}


def run_tiny(tmp_path, *words):
    command = [sys.executable, "benchmarks/gpu.py", "--tiny", f"--out={tmp_path / 'gpu.json'}"]
    subprocess.run([*command, *words], cwd=ROOT, check=True)
    return json.loads((tmp_path / "gpu.json").read_text())["rows"]


def test_a_row_at_tiny_sizes(tmp_path):
    (row,) = run_tiny(tmp_path, "--rows", "train_step")
    assert "images/s" in row["measured"]
    assert row["met"] is None


@pytest.mark.slow
def test_all_rows_at_tiny_sizes(tmp_path):
    rows = run_tiny(tmp_path)
    assert len(rows) == len(gpu.ROWS)
    assert not [row for row in rows if row["measured"] == "not measured"]
