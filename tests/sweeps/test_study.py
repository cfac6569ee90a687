"""From a sweep file to checked runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from resnet_jax.config import FIELDS, override
from resnet_jax.errors import UserError
from resnet_jax.sweeps.jobs import Job
from resnet_jax.sweeps.plan import check, make_jobs, make_legal_plan
from resnet_jax.sweeps.run_ids import LONGEST_ID, name_run
from resnet_jax.sweeps.study import (
    make_run,
    read_study,
    refuse_changed_runs,
)
from resnet_jax.sweeps.sweep_directory import SweepDirectory

STUDIES = sorted((Path(__file__).parents[2] / "configs" / "sweeps").glob("*.py"))
FILE = '''"""A title.

More words."""

from resnet_jax.config import default_config
from resnet_jax.sweeps.grid import choice, product

FORMS = ("small", "large")


def get_config(form="small"):
    return default_config()


def sweep(form="small"):
    depths = (8, 14) if form == "small" else (8, 14, 20)
    return {sweep}
'''


@pytest.fixture
def file(tmp_path):
    """Writes a sweep file whose sweep() returns an expression."""

    def write(sweep='product({"model.depth": depths, "seed": range(2)})'):
        path = tmp_path / "study.py"
        path.write_text(FILE.replace("{sweep}", sweep))
        return str(path)

    return write


def test_a_study_has_its_runs_in_the_order_of_the_file(file):
    study = read_study(file(), {"train.batch_size": "32"})
    assert (study.name, study.form, study.title) == ("study", None, "A title.")
    assert [run.id for run in study.runs] == [
        "depth=8,seed=0", "depth=8,seed=1", "depth=14,seed=0", "depth=14,seed=1",
    ]  # fmt: skip
    run = study.runs[2]
    assert (run.config.model.depth, run.config.seed, run.config.train.batch_size) == (14, 0, 32)
    assert len(read_study(f"{file()}:large", {}).runs) == 6


SPELLINGS = {
    "train.duration": "(10, '10 steps')",
    "optimizer.learning_rate": "(1, '1e0')",
    "optimizer.weight_decay": "('1e-4', 0.0001)",
    "evaluate.every": "('2 epochs', '2.0 epochs')",
    "data.flip": "(True, 'true')",
    "evaluate.scales": "([16, 24], '16,24')",
    "train.ema_decay": "(None, 'none')",
}


@pytest.mark.parametrize("field", SPELLINGS)
def test_spellings_of_one_value_are_one_run(file, field):
    values = SPELLINGS[field]
    with pytest.raises(UserError, match=rf"is stated twice, with {field} as .* and "):
        read_study(file(f"[{{{field!r}: value}} for value in {values}]"), {})
    ids = {read_study(file(f"[{{{field!r}: {values}[{i}]}}]"), {}).runs[0].id for i in (0, 1)}
    assert len(ids) == 1
    searched = read_study(file(f"{{{field!r}: choice(*{values})}}"), {})
    assert len(searched.ranges[field].values) == 1


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("data.name", "choice('digits', 'mnist')"),
        ("data.eval_split", "choice('test', 'train')"),
        ("evaluate.crops", "choice(1, 10)"),
        ("evaluate.image_size", "choice(8, 16)"),
    ],
)
def test_a_search_has_one_data_set_and_one_evaluation(file, field, values):
    """Its best trial would be the one with the easiest images."""
    with pytest.raises(UserError, match=f"{field} .*cannot be searched"):
        read_study(file(f"{{{field!r}: {values}, 'seed': choice(0, 1)}}"), {})


@pytest.mark.parametrize(
    ("sweep", "words"),
    [
        ("product({'model.dpeth': (8,)})", "did you mean 'model.depth'"),
        ("product({'model.depth': ('deep',)})", "run depth=deep: model.depth.*a whole number"),
        ("product({'model.depth': (8, 8)})", "'depth=8': is stated twice"),
        ("[{'model.depth': 20}, {}]", "'base': is the same as depth=20"),
        ("[{'seed': 1}, {'seed': 1, 'data.num_threads': 2}]", "is the same as seed=1"),
        ("[]", "states no runs"),
        ("{'model.depth': (8,)}", "must return a list"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_wrong_study_is_refused(file, sweep, words):
    with pytest.raises(UserError, match=words):
        read_study(file(sweep), {})


def test_an_unknown_form_is_refused(file):
    with pytest.raises(UserError, match="allowed: small, large"):
        read_study(f"{file()}:medium", {})
    with pytest.raises(UserError, match="has no function sweep"):
        read_study("configs/digits.py", {})
    with pytest.raises(UserError, match="has no forms"):
        read_study("configs/digits.py:full", {})


scalars = st.one_of(st.integers(), st.floats(allow_nan=False), st.text(max_size=200), st.none())


@given(st.dictionaries(st.sampled_from(list(FIELDS)), scalars, max_size=12))
def test_the_name_of_a_run_is_a_directory_of_its_own(overrides):
    name = name_run(overrides)
    assert re.fullmatch(r"[A-Za-z0-9_.,=+~%-]+", name)
    assert 0 < len(name) <= LONGEST_ID
    assert re.match("[a-z]", name)
    assert name == name_run(dict(overrides))


# Characters that names are made of, and those that an earlier version let two values share.
LETTERS = st.sampled_from([*"aA1 _+,=~%[]()*?{}./\\-#$'\n", "e+", "%5B", "é", "🙂", "\udce9"])
TEXTS = st.lists(LETTERS, max_size=8).map("".join) | st.text(max_size=150)
VALUES = {
    "data.train_split": TEXTS,
    "data.name": TEXTS,
    "train.duration": TEXTS,
    "optimizer.learning_rate": st.floats(allow_nan=False),
    "seed": st.integers(),
    "model.freeze": st.lists(TEXTS, max_size=4),
    "schedule.boundaries": st.lists(TEXTS, max_size=4),
}


@settings(max_examples=300)
@given(st.data())
def test_different_values_have_different_names(data):
    fields = data.draw(
        st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=3, unique=True)
    )
    one, other = ({field: data.draw(VALUES[field]) for field in fields} for _ in range(2))
    assume(one != other)
    assert name_run(one) != name_run(other)


def test_names_are_readable():
    names = {
        "duration=10_epochs": {"train.duration": "10 epochs"},
        "boundaries=30_epochs+60_epochs": {"schedule.boundaries": ("30 epochs", "60 epochs")},
        "depth=20,shortcut=A,seed=0": {"model.depth": 20, "model.shortcut": "A", "seed": 0},
        "train_split=train%5B%3A500%5D": {"data.train_split": "train[:500]"},
        "learning_rate=1e16": {"optimizer.learning_rate": 1e16},
    }
    for name, overrides in names.items():
        assert name_run(overrides) == name


def test_names_that_are_cut_differ():
    one, other = ({"data.name": "x" * 300 + end} for end in "ab")
    assert name_run(one) != name_run(other)
    assert name_run({"data.name": name_run(one).removeprefix("name=")}) != name_run(one)


def test_runs_that_differ_in_numbers_share_a_group_and_contradictions_are_found(small_config):
    small_config = override(small_config, {"parallel.num_devices": None})
    overrides = [
        {"seed": 0}, {"seed": 1}, {"optimizer.learning_rate": 0.2}, {"schedule.warmup": 3},
        {"model.depth": 14}, {"optimizer.momentum": 0.0}, {"optimizer.momentum": 0.5},
    ]  # fmt: skip
    runs = [make_run(small_config, one) for one in overrides]
    plan = make_legal_plan(runs)
    numbers = [[overrides.index(runs_by_id(runs)[i]) for i in group] for group in plan.groups]
    assert numbers == [[0, 1, 2, 3, 6], [4], [5]]
    assert plan.facts["depth=14"]["parameters"] == 172_218
    assert plan.facts["seed=0"]["steps"] == 20
    wrong = {
        "warmup=50": ({"schedule.warmup": 50}, "schedule.warmup = 50: must be shorter"),
        "shortcut=E": ({"model.shortcut": "E"}, "model.shortcut = 'E': allowed"),
        "data.name=none_such": ({"data.name": "none_such"}, "data.name = 'none_such'"),
    }
    more = [*runs, *(make_run(small_config, overrides) for overrides, _ in wrong.values())]
    checked = check([(run.id, run.config.to_dict()) for run in more])
    assert checked.groups == plan.groups
    assert checked.errors.keys() == wrong.keys()
    for run_id, (_, words) in wrong.items():
        assert f"run {run_id}: {words}" in str(checked.errors[run_id])


def runs_by_id(runs):
    return {run.id: run.overrides for run in runs}


def test_what_was_trained_must_be_of_the_same_config(file, tmp_path):
    study, directory = read_study(file(), {}), SweepDirectory(tmp_path / "sweep")
    run = study.runs[0]
    directory.run(run.id).create(run.config.to_dict())
    refuse_changed_runs(study, directory)
    with pytest.raises(UserError, match="seed=0.*train.batch_size: 128 → 32"):
        refuse_changed_runs(read_study(file(), {"train.batch_size": 32}), directory)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 12))
def test_jobs_have_every_run_once_and_are_enough(sizes, max_parallel):
    groups = [[f"{g}-{i}" for i in range(size)] for g, size in enumerate(sizes)]
    jobs = make_jobs(groups, True, max_parallel)
    assert [run for job in jobs for run in job.runs] == [run for group in groups for run in group]
    assert len(jobs) == max(len(groups), min(max_parallel, sum(sizes)))
    alone = make_jobs(groups, False, max_parallel)
    assert alone == [Job((run,)) for group in groups for run in group]


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_shipped_studies_are_legal_in_every_form(path):
    study = read_study(str(path), {})
    assert len(study.runs) >= 6
    assert {run.overrides["seed"] for run in study.runs} >= {0, 1, 2}
    full = read_study(f"{path}:full", {})
    assert {run.overrides["seed"] for run in full.runs} >= {0, 1, 2}
    assert not [run.id for run in study.runs if "seed=" not in run.id]


def test_the_process_that_starts_workers_imports_no_jax():
    code = "import sys, resnet_jax.sweeps.runner; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
