"""A search by Optuna through the command line."""

import json
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend

ROOT = Path(__file__).parents[2]
FILE = '''"""A search."""

from resnet_jax.config import default_config
from resnet_jax.sweeps.grid import choice, log_uniform, uniform


def get_config():
    config = default_config()
    config.model.depth = 8
    config.train.duration = "6 steps"
    config.train.batch_size = 16
    config.evaluate.every = "2 steps"
    return config


def sweep():
    return {
        "optimizer.learning_rate": log_uniform(1e-4, 1.0),
        "optimizer.momentum": uniform(0.5, 0.9),
        "model.shortcut": choice("A", "B"),
        "seed": uniform(0, 3),
    }
'''


@pytest.fixture
def search(tmp_path):
    (tmp_path / "study.py").write_text(FILE)

    def run(workdir, *options):
        words = [sys.executable, "launch.py", "sweep", f"--config={tmp_path / 'study.py'}"]
        return subprocess.run(
            [*words, f"--workdir={tmp_path / workdir}", *options],
            cwd=ROOT, capture_output=True, text=True, timeout=300,
        )  # fmt: skip

    return run


def trials_of(storage):
    return optuna.load_study(
        study_name="study",
        storage=optuna.storages.JournalStorage(JournalFileBackend(str(storage))),
    ).trials


def runs_of(workdir):
    return {run["id"]: run for run in json.loads((workdir / "sweep.json").read_text())["runs"]}


def test_two_directories_share_a_search_and_the_same_command_adds_to_it(search, tmp_path):
    storage = tmp_path / "shared" / "search.log"
    options = ["--search=optuna", f"--storage={storage}", "--early_stop=median", "--max_parallel=2"]
    one = search("one", *options, "--trials=2")
    assert one.returncode == 0, one.stdout + one.stderr
    other = search("other", *options, "--trials=3")
    assert other.returncode == 0, other.stdout + other.stderr
    mine, theirs = runs_of(tmp_path / "one"), runs_of(tmp_path / "other")
    assert (len(mine), len(theirs)) == (2, 1)
    trials = trials_of(storage)
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 3
    # Values are the accuracies of the runs, and lie in the ranges of the file.
    for workdir, runs in (("one", mine), ("other", theirs)):
        for run_id, run in runs.items():
            trial = trials[run["trial"]]
            status = json.loads((tmp_path / workdir / "runs" / run_id / "status.json").read_text())
            assert trial.value == status["result"]["accuracy"]
            assert trial.params == run["overrides"]
            assert [*trial.intermediate_values] == [2, 4, 6]
            assert 1e-4 <= trial.params["optimizer.learning_rate"] <= 1
            assert trial.params["seed"] in range(4)
    again = search("one", *options, "--trials=3")
    assert again.returncode == 0, again.stdout + again.stderr
    assert len(runs_of(tmp_path / "one")) == 2
    assert "best: " in again.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "add --search=optuna --trials=N"),
        (["--search=optuna"], "--trials = None: must be 1 or more"),
        (["--search=vizier", "--trials=3"], "--search = 'vizier': allowed: optuna"),
        (["--search=optuna", "--trials=3", "--early_stop=best"], "allowed: median, hyperband"),
    ],
)
def test_wrong_options_are_refused(search, tmp_path, options, words):
    done = search("sweep", *options)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert words in done.stderr
    assert not (tmp_path / "sweep").exists()
