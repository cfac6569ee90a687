"""Random studies: who beats whom is said of runs that differ in one field, and its numbers are right.

Everything expected here is computed again from the files of the run directories.
"""

import itertools
import json
import math
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from fabricate import make_sweep
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from resnet_jax.report.against import joined
from resnet_jax.report.axes import find_axes
from resnet_jax.report.comparisons import compare
from resnet_jax.report.confounded import find_confounded
from resnet_jax.report.facts import findings
from resnet_jax.report.settings import make_settings
from resnet_jax.report.study import read_study

# Field → values, and what a report calls them.
LABELS = {
    "model.depth": {8: "depth 8", 14: "depth 14", 20: "depth 20"},
    "model.shortcut": {"none": "plain", "A": "residual A"},
    "optimizer.learning_rate": {0.03: "learning rate 0.03", 0.1: "learning rate 0.1"},
    "data.name": {"digits": "digits", "cifar10": "CIFAR-10"},
    "train.batch_size": {64: "batch size 64", 128: "batch size 128"},
    "train.ema_decay": {
        None: "decay of averaged weights none",
        0.99: "decay of averaged weights 0.99",
    },
    "evaluate.crops": {1: "crops 1", 10: "crops 10"},
}
RUNTIME_ONLY = ("data.num_threads", "parallel.num_devices", "data.data_dir")
SENTENCE = re.compile(
    r"(?:(?P<fixed>.*): )?(?P<better>.+?) (?P<verb>beats|has) (?P<rest>.*) "
    r"\(n = (?P<n>\d+)(?: of (?P<planned>\d+))?"
    r"(?:, 95% interval (?P<low>[−\d.]+) to (?P<high>[−\d.]+))?\); (?P<verdict>.*)\."
)
OUTCOMES = st.one_of(
    st.tuples(st.integers(0, 400), st.integers(0, 400)).map(
        lambda pair: (pair[0] / 10, pair[1] / 10)
    ),
    st.sampled_from([("diverged", "not finite"), ("failed", "lost"), ("running", None), "pending"]),
)


@st.composite
def studies(draw):
    """(overrides, outcome, harm) of each run: a grid of which some runs are missing or unlike the rest."""
    names = draw(st.lists(st.sampled_from(list(LABELS)), min_size=1, max_size=4, unique=True))
    seeds = draw(st.integers(1, 4))
    settings_ = [{}]
    for name in names:
        settings_ = [s | {name: value} for s in settings_ for value in LABELS[name]]
    # Gaps, so that fields go together by chance; and fields of a few settings alone.
    settings_ = draw(st.lists(st.sampled_from(settings_), min_size=1, max_size=6, unique_by=repr))
    for s in settings_:
        extra = draw(st.sampled_from([None, None, None, *LABELS]))
        if extra and extra not in names:
            s[extra] = draw(st.sampled_from(list(LABELS[extra])))
    effects = [draw(st.sampled_from([0, 1, 20])) for _ in settings_]
    runs = {}
    for s, effect in zip(settings_, effects, strict=True):
        for seed in range(seeds):
            overrides = s | {"seed": seed}
            outcome = (
                draw(OUTCOMES) if draw(st.integers(0, 3)) == 0 else (40.0 + effect + seed, 30.0)
            )
            if not isinstance(outcome[0], str):
                noise = draw(st.integers(0, 9)) / 10
                outcome = (outcome[0] + noise, outcome[1] + effect + noise)
            harm = draw(
                st.sampled_from(
                    [None] * 8 + ["nan", "null", "data", "steps", "old", "new", "threads"]
                )
            )
            runs[json.dumps(overrides, sort_keys=True)] = (overrides, outcome, harm)
    return list(runs.values())


def write(path, runs):
    """A sweep directory, harmed as asked for."""
    sweep = make_sweep(path, [(overrides, outcome) for overrides, outcome, _ in runs], lines=10)
    entries = json.loads((path / "sweep.json").read_text())["runs"]
    for (_, outcome, harm), entry in zip(runs, entries, strict=True):
        run = sweep.run(entry["id"])
        if outcome == "pending":
            continue
        config = json.loads((run.path / "config.json").read_text())
        facts = {
            "class_names": ["a", "b"],
            "image_shape": [8, 8, 1],
            "train_examples": 900 if harm == "data" else 1000,
            "eval_examples": 10_000,
            "eval_split": "test",
            "mean": [0.3],
            "std": [0.2],
        }
        (run.path / "data.json").write_text(json.dumps(facts))
        lines = (run.path / "metrics.jsonl").read_text().splitlines()
        if harm in ("nan", "null"):
            broken = json.loads(lines[-1]) | {"accuracy": None, "loss": math.nan}
            broken |= {"accuracy": math.nan} if harm == "nan" else {}
            lines[-1] = json.dumps(broken)
            (run.path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
        elif harm == "steps":
            status = json.loads((run.path / "status.json").read_text())
            status["total_steps"] = 90
            if outcome[0] not in ("diverged", "failed", "running"):
                status["step"] = 80
                kept = [line for line in lines if json.loads(line)["step"] <= 80]
                (run.path / "metrics.jsonl").write_text("\n".join(kept) + "\n")
            (run.path / "status.json").write_text(json.dumps(status))
        elif harm == "old":
            del config["data"]["flip"]
        elif harm == "new":
            config["model"]["novelty"] = 3
        elif harm == "threads":
            config["data"]["num_threads"] = 7
        (run.path / "config.json").write_text(json.dumps(config))
    return sweep


def flat(tree, prefix=""):
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def raw(directory, planned):
    """What the files of a run say: (config without the runtime, data, steps), seed, errors."""
    path = Path(directory)
    if not (path / "config.json").exists():
        config = planned
        return {"flip": False} | config, None, None, {}
    config = dict(flat(json.loads((path / "config.json").read_text())))
    config.setdefault("data.flip", False)
    for name in RUNTIME_ONLY:
        config.pop(name, None)
    status = json.loads((path / "status.json").read_text())
    data = json.loads((path / "data.json").read_text())["train_examples"]
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    errors = {}
    finite = all(
        line["accuracy"] is not None
        and math.isfinite(line["accuracy"])
        and math.isfinite(line["loss"])
        for line in lines
    )
    if status["state"] == "done" and finite:
        of = {
            event: [line for line in lines if line["event"] == event] for event in ("train", "eval")
        }
        errors["test"] = 100 * (1 - of["eval"][-1]["accuracy"])
        # The lines of ten steps each, of a run of ten epochs of ten steps: the last alone.
        errors["train"] = 100 * (1 - of["train"][-1]["accuracy"])
    return config, data, status["step" if status["state"] == "done" else "total_steps"], errors


def unlike(first, second):
    """Names in which two runs differ, the seed aside."""
    names = {*first[0], *second[0]} - {"seed"}
    missing = object()
    found = {n for n in names if first[0].get(n, missing) != second[0].get(n, missing)}
    return found | {
        fact for fact, i in (("data.name", 1), ("steps trained", 2)) if first[i] != second[i]
    }


def number(text):
    return float(text.replace("−", "-"))


def expected_pairs(baseline, other, split):
    """Difference of the errors seed by seed, where both have one."""
    sides = [
        {run[0]["seed"]: run[3][split] for run in side if split in run[3]}
        for side in (baseline, other)
    ]
    return {seed: error - sides[1][seed] for seed, error in sides[0].items() if seed in sides[1]}


def check_sentence(text, c, baseline, other, adjusted):
    """Names, numbers and the verdict of one sentence, from the files alone."""
    (field,) = unlike(baseline[0], other[0])
    if field not in LABELS:
        # Of one run alone, so that no seed has a pair.
        assert " beats " not in text
        return
    names = [LABELS[field][side[0][0][field]] for side in (baseline, other)]
    differences = expected_pairs(baseline, other, c.split)
    values = np.array(list(differences.values()))
    match = SENTENCE.fullmatch(text)
    if not len(values):
        assert f"{names[1]} against {names[0]}: " in text
        assert not match or match["verb"] != "beats"
        return
    if "have the same mean" in text:
        assert round(values.mean(), 2) == 0
        return
    assert match, text
    assert int(match["n"]) == len(values)
    mean = values.mean()
    points = re.search(
        r"by (?P<points>[\d.]+)|has (?P<less>[\d.]+)", f"{match['verb']} {match['rest']}"
    )
    better, worse = (names[1], names[0]) if mean >= 0 else (names[0], names[1])
    if points:
        assert float(points["points"] or points["less"]) == pytest.approx(abs(mean), abs=0.005001)
        assert match["better"] == better
        assert re.search(
            rf"(beats|than) {re.escape(worse)}( by| $|$)", f"{match['verb']} {match['rest']}"
        )
    varies = len(values) > 1 and np.ptp(values) > 1e-4
    assert (match["low"] is not None) == varies
    if varies:
        low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
        low, high = (low, high) if mean >= 0 else (-high, -low)
        assert (number(match["low"]), number(match["high"])) == pytest.approx(
            (low, high), abs=0.00501
        )
    assert (match["verb"] == "beats") == (varies and adjusted < 0.05)


def p_value(differences):
    values = np.array(list(differences.values()))
    if len(values) < 2 or np.ptp(values) < 1e-4:
        return None
    return stats.ttest_rel(values, np.zeros(len(values))).pvalue


def holm(p_values):
    """By its definition: the k-th smallest times the number of those that are not smaller; never falling."""
    ordered = sorted(p_values)
    return {
        p: min(1.0, max((len(ordered) - k) * q for k, q in enumerate(ordered) if q <= p))
        for p in ordered
    }


def compared(study, runs_of, settings_, axes):
    """Comparisons with the raw runs of both sides; each with its adjusted p-value from the files."""
    found = compare(settings_, axes, study.base)
    rows = [
        (c, [runs_of[r.id] for r in c.baseline.runs], [runs_of[r.id] for r in c.other.runs])
        for c in found
    ]
    for split in ("train", "test"):
        of_split = [row for row in rows if row[0].split == split]
        p_values = [p_value(expected_pairs(b, o, split)) for _, b, o in of_split]
        adjusted = holm([p for p in p_values if p is not None])
        for row, p in zip(of_split, p_values, strict=True):
            yield (*row, None if p is None else adjusted[p])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(studies(), st.booleans())
def test_who_beats_whom_differs_in_the_named_field_alone(runs, as_folder):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sweep"
        sweep = write(path, runs)
        if as_folder and any(sweep.runs.iterdir()):
            path = sweep.runs
        study = read_study([str(path)])
        ids = json.loads((sweep.path / "sweep.json").read_text())
        planned = {
            entry["id"]: dict(flat(ids["config"])) | entry["overrides"] for entry in ids["runs"]
        }
        runs_of = {run.id: raw(sweep.runs / run.id, planned.get(run.id)) for run in study.runs}
    axes = find_axes(study)
    settings_ = make_settings(study, axes)
    for setting in settings_:
        begun = [runs_of[r.id] for r in setting.runs if runs_of[r.id][1] is not None]
        assert all(unlike(begun[0], run) == set() for run in begun)
        for split in ("train", "test"):
            errors = [run[3][split] for run in begun if split in run[3]]
            summary = setting.summary(split)
            assert (summary is None) == (not errors)
            if errors:
                assert summary.mean == pytest.approx(np.mean(errors))
    rows = list(compared(study, runs_of, settings_, axes))
    for c, baseline, other, adjusted in rows:
        baseline, other = (
            [run for run in side if run[1] is not None] for side in (baseline, other)
        )
        if baseline and other:
            assert unlike(baseline[0], other[0]) == set(c.axis.fields)
            check_sentence(c.sentence(), c, baseline, other, adjusted)
    check_none_is_missing([c for c, *_ in rows if c.split == "test"], settings_, runs_of)
    comparisons = [c for c, *_ in rows]
    confounded = find_confounded(settings_, axes, study.base, comparisons)
    for pair in confounded:
        sides = [
            [run for r in side.runs if (run := runs_of[r.id])[1]]
            for side in (pair.baseline, pair.other)
        ]
        if all(sides):
            found = unlike(sides[0][0], sides[1][0])
            assert len(found) > 1 or found == {"steps trained"}
        assert not re.search("beats|distinguishable|less", pair.sentence())
    lines = findings(comparisons, confounded)
    beats = [line for line in lines if " beats " in line]
    assert set(beats) == {c.sentence() for c in comparisons if c.verdict == "distinguishable"}
    for axis in axes.axes:
        if axis.fields in (("data.name",), ("steps trained",)):
            continue
        assert len(axis.fields) == 1 or not set(axis.fields) & {
            "data.name",
            "model.depth",
            "optimizer.learning_rate",
        }
        for line in joined(settings_, axis):
            begun = [run for s in line for r in s.runs if (run := runs_of[r.id])[1] is not None]
            assert len({run[0]["data.name"] for run in begun}) < 2
            assert all(unlike(begun[0], run) <= set(axis.fields) for run in begun)


def check_none_is_missing(comparisons, settings_, runs_of):
    """Settings that differ in one field are in one comparison at least."""
    pairs = {(id(c.baseline), id(c.other)) for c in comparisons}
    in_pairs = {i for pair in pairs for i in pair}
    for a, b in itertools.combinations(settings_, 2):
        begun = [[run for r in s.runs if (run := runs_of[r.id])[1] is not None] for s in (a, b)]
        found = unlike(begun[0][0], begun[1][0]) if all(begun) else set()
        if len(found) == 1 and found & set(LABELS) - {"data.name"}:
            assert {id(a), id(b)} <= in_pairs
