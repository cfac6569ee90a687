"""What a page says about the study as a whole: its state, how it compares, where it ran."""

import datetime
from collections.abc import Sequence
from typing import Any

from resnet_jax.plotting.labels import count, enumerate_words, field_label, value_label
from resnet_jax.report.axes import Axes
from resnet_jax.report.comparisons import Comparison, software_versions
from resnet_jax.report.conditions import DATA
from resnet_jax.report.confounded import Confounded
from resnet_jax.report.run import Run
from resnet_jax.report.settings import ERRORS, Setting, count_states
from resnet_jax.report.statistics import CONFIDENCE, RESAMPLES
from resnet_jax.report.study import Study
from resnet_jax.run_states import FAILED

FEW_SEEDS = 5
# So many pairs without a verdict are sentences; the table has all.
MOST_CONFOUNDED = 12


def summary_sentence(study: Study, axes: Axes, settings: Sequence[Setting]) -> str:
    """`24 runs: 20 done, 1 diverged, 3 running. 12 settings of depth × shortcut, 2 seeds each.`"""
    states = enumerate_words([f"{n} {state}" for state, n in count_states(study.runs).items()])
    text = f"{count(len(study.runs), 'run')}: {states}."
    if axes.axes:
        names = " × ".join(axis.label for axis in axes.axes)
        text += f" {count(len(settings), 'setting')} of {names},"
    else:
        text += " One setting,"
    sizes = [len(setting.runs) for setting in settings]
    low, high = min(sizes, default=0), max(sizes, default=0)
    text += f" {count(low, 'seed')} each." if low == high else f" {low} to {high} seeds each."
    return text


def data_sets(study: Study) -> str:
    """`Fashion-MNIST (10000 evaluated images: one is 0.01 points of error)`, and so on."""
    examples: dict[str, set[int]] = {}
    for run in study.runs:
        name = value_label(DATA, run.conditions.get(DATA, run.config.get(DATA, "?")))
        examples.setdefault(name, set()).update({run.examples} - {0})
    return enumerate_words([_with_examples(name, sorted(ns)) for name, ns in examples.items()])


def _with_examples(name: str, ns: Sequence[int]) -> str:
    parts = [f"{n} evaluated images: one is {100 / n:.2g} points of error" for n in ns]
    return f"{name} ({'; or '.join(parts)})" if parts else name


def other_software(runs: Sequence[Run]) -> list[str]:
    """`Runs used other versions of jax (0.10.2, 0.11.2), which …`; empty where all used the same."""
    found = software_versions(runs)
    others = [f"{name} ({', '.join(v)})" for name, v in found.items() if len(v) > 1]
    if not others:
        return []
    return [
        f"Not all runs used the same version of {enumerate_words(others)}; where the sides of a "
        "comparison do not, it says so"
    ]


def incomplete_logs(runs: Sequence[Run]) -> list[str]:
    """`depth=8: metrics.jsonl ends at step 140 of 220`, of each run whose log lacks lines."""
    return [f"{run.id}: {run.missing}" for run in runs if run.missing]


def findings(comparisons: Sequence[Comparison], confounded: Sequence[Confounded]) -> list[str]:
    """The comparisons in words, then the pairs that have no verdict."""
    # A pair without results reads the same for both errors.
    lines = list(dict.fromkeys(c.sentence() for c in comparisons if not c.waits))
    lines += [pair.sentence() for pair in confounded[:MOST_CONFOUNDED]]
    if len(confounded) > MOST_CONFOUNDED:
        more = count(len(confounded) - MOST_CONFOUNDED, "more pair")
        lines.append(f"{more} without a verdict: see the table.")
    return lines


def tied_fields(axes: Axes) -> list[str]:
    """`duration goes with data set: 20 epochs (digits), 30 epochs (CIFAR-10)`."""
    lines = []
    for name, other, mapping in axes.tied:
        pairs = [
            f"{value_label(name, value)} ({value_label(other, key)})"
            for key, value in mapping.items()
            if value is not None
        ]
        lines.append(f"{field_label(name)} goes with {field_label(other)}: {', '.join(pairs)}")
    return lines


def method_notes(
    study: Study,
    settings: Sequence[Setting],
    comparisons: Sequence[Comparison],
    confounded: Sequence[Confounded],
) -> list[str]:
    """How intervals and comparisons were made, and how little few seeds say."""
    summaries = [summary for s in settings if (summary := s.summary("test"))]
    most = max((summary.n for summary in summaries), default=0)
    notes = [
        "± is one standard deviation over seeds. Training error is the mean over the last epoch of "
        "mini-batches as they were trained (augmented, in train mode). Only runs that are done "
        "count; the column of runs says how many were planned."
    ]
    if most >= 2:
        notes.append("95% intervals are of the mean, by Student's t.")
    if 2 <= most < FEW_SEEDS:
        notes.append(
            f"With {most} seeds at most, intervals are wide and rest on the assumption "
            "that errors are normally distributed over seeds."
        )
    if comparisons:
        by_split = {split: 0 for split in dict.fromkeys(c.split for c in comparisons)}
        for c in comparisons:
            by_split[c.split] += c.adjusted is not None
        made = enumerate_words([f"{n} of the {ERRORS[split]}" for split, n in by_split.items()])
        notes.append(
            "Settings that differ in one field, and in nothing else that changes numbers, are compared "
            f"seed by seed (paired t-test) with one baseline. {count(sum(by_split.values()), 'comparison')} could be tested ({made}); "
            f"“distinguishable” is p < {1 - CONFIDENCE:.2f} after Holm's correction for the number "
            "of comparisons of that error."
        )
        notes.append(
            f"The bootstrap column (BCa, {RESAMPLES} resamples of the pairs) assumes no "
            "distribution, but is too narrow at few seeds: at 3 it covers the mean about 7 times in "
            "10, at 5 about 8, at 20 above 9."
        )
        waiting = sum(c.waits for c in comparisons)
        if waiting:
            notes.append(
                f"{count(waiting, 'comparison')} more must wait for runs that are not done."
            )
    if confounded:
        notes.append(
            "Settings that differ in more than one field have no verdict: their difference may come "
            "from any of the fields. Data sets are not compared."
        )
    if study.search:
        notes.append(
            "Trials of a search differ in several fields at once, and the later ones were chosen by the "
            "results of the earlier: a low error has no single field as its cause, and none is compared."
        )
    return notes


def environments(runs: Sequence[Run]) -> list[tuple[str, str, int]]:
    """(devices, versions, number of runs) of every environment that runs report."""
    found: dict[tuple[str, str], int] = {}
    for run in runs:
        versions = run.status.get("versions")
        if not run.status:
            continue
        packages = ", ".join(f"{k} {v}" for k, v in versions.items()) if versions else "unknown"
        key = (_devices(run.status.get("devices")), packages)
        found[key] = found.get(key, 0) + 1
    return [(*key, n) for key, n in found.items()]


def _devices(devices: Any) -> str:
    if not isinstance(devices, (list, tuple)) or not devices:
        return "unknown"
    return ", ".join(str(d) for d in devices[:8]) + (" …" if len(devices) > 8 else "")


def failures(runs: Sequence[Run]) -> list[tuple[str, str, list[str]]]:
    """(state, reason, runs) of the runs that failed, diverged or cannot be read."""
    found: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        if run.state in FAILED:
            found.setdefault((run.state, run.error or "no reason given"), []).append(run.id)
    return [(*key, ids) for key, ids in found.items()]


def now() -> str:
    """The time, UTC."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
