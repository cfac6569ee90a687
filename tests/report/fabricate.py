"""Sweep directories as a sweep leaves them, with curves made up from a final error."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from resnet_jax.config import default_config
from resnet_jax.report.axes import Axes, find_axes
from resnet_jax.report.comparisons import Comparison, compare
from resnet_jax.report.conditions import with_conditions
from resnet_jax.report.confounded import Confounded, find_confounded
from resnet_jax.report.run import Curve, Run, flat_config
from resnet_jax.report.settings import Setting, make_settings
from resnet_jax.report.study import Study, read_study
from resnet_jax.sweeps.sweep_directory import SweepDirectory

EXAMPLES = 10_000


def make_sweep(
    path: Any,
    outcomes: Sequence[tuple[Mapping[str, Any], Any]],
    base: Mapping[str, Any] | None = None,
    *,
    lines: int = 20,
    **facts: Any,
) -> SweepDirectory:
    """Write a sweep directory.

    Args:
        path: where.
        outcomes: (overrides, outcome) a run. The outcome is the final (test, train) error in percent;
            or a state with its error message; or `pending`.
        base: fields of the base config.
        lines: train lines, and half as many evaluations, of a run that is done.
        **facts: of sweep.json.
    """
    directory = SweepDirectory(path)
    config = config_with(
        default_config(), {"train.duration": f"{10 * lines} steps", **(base or {})}
    )
    runs = [
        {
            "id": run_id(overrides),
            "overrides": dict(overrides),
            "parameters": 272_474,
            "macs": 40_550_000,
        }
        for overrides, _ in outcomes
    ]
    names = {
        "name": "study",
        "form": None,
        "title": "A study",
        "description": "A study\n\nOf something.",
    }
    content = {**names, "config_file": "study.py", "config": config.to_dict(), "runs": runs}
    directory.write(**{**content, **facts})
    for (overrides, outcome), entry in zip(outcomes, runs, strict=True):
        if outcome != "pending":
            run = directory.run(entry["id"])
            run.create(json.loads(json.dumps(config_with(config, overrides).to_dict())))
            fill(run, outcome, lines, int(overrides.get("seed", 0)))
    return directory


def config_with(config: ConfigDict, fields: Mapping[str, Any]) -> ConfigDict:
    """A copy with dotted fields set as they are, legal or not."""
    copy = ConfigDict(config.to_dict(), type_safe=False)
    copy.update_from_flattened_dict(fields)
    return copy


def run_id(overrides: Mapping[str, Any]) -> str:
    """`depth=8,shortcut=A`."""
    parts = [f"{name.rpartition('.')[2]}={value}" for name, value in overrides.items()]
    return ",".join(parts).replace("/", "_") or "base"


def fill(run: Any, outcome: Any, lines: int, seed: int) -> None:
    """Write metrics and status of a run that has begun."""
    failed = isinstance(outcome[0], str)
    state, message = outcome if failed else ("done", None)
    test, train = (60.0, 60.0) if failed else outcome
    rng = np.random.default_rng(seed)
    reached = lines // 2 if failed else lines
    total = 10 * lines
    for i in range(1, reached + 1):
        step, share = 10 * i, i / lines
        # The last tenth is the last epoch: exact, so that the final errors are the ones asked for.
        noise = 1 + (0.1 * rng.standard_normal() if share <= 0.9 else 0.0)
        decay = 90 * np.exp(-6 * share) * (1 - share) * noise
        numbers = {"step": step, "epoch": round(10 * share, 4), "loss": 1.0}
        error = min(100, train + decay) if share <= 0.9 else train
        run.log("train", accuracy=1 - error / 100, **numbers)
        if i % 2 == 0:
            error = min(100, test + decay) if i < lines else test
            run.log("eval", accuracy=1 - error / 100, examples=EXAMPLES, split="test", **numbers)
    facts = {"parameters": 272_474, "macs": 40_550_000, "devices": ["cpu:0"], "seconds": 61.0}
    if message is not None:
        facts["error"] = message
    run.write_status(state, 10 * reached, total, **facts)


def read(directory: SweepDirectory) -> tuple[Study, Axes, tuple[Setting, ...]]:
    """Study, axes and settings of a sweep directory."""
    study = read_study([str(directory.path)])
    axes = find_axes(study)
    return study, axes, make_settings(study, axes)


def all_done(base: Mapping[str, Any], overrides: Sequence[Mapping[str, Any]]) -> Study:
    """A study in memory, all of whose runs are done at an error of 20%.

    Args:
        base: dotted field → value.
        overrides: of each run.
    """
    curve = Curve(*np.array([[10.0, 1.0, 20.0]]).T)
    runs = [
        Run(str(i), flat_config(dict(base) | dict(own)), "done", train=curve, test=curve)
        for i, own in enumerate(overrides)
    ]
    fields = dict.fromkeys(name for own in overrides for name in own)
    return Study("A study", "", base, tuple(fields), tuple(with_conditions(runs)))


def compare_all(
    study: Study,
) -> tuple[tuple[Comparison, ...], tuple[Confounded, ...], tuple[Setting, ...]]:
    """Comparisons, pairs without a verdict, and settings of a study."""
    axes = find_axes(study)
    settings = make_settings(study, axes)
    comparisons = compare(settings, axes, study.base)
    return comparisons, find_confounded(settings, axes, study.base, comparisons), settings


def edit(path, **changes):
    """Change dotted fields of a JSON file; None removes one."""
    content = json.loads(path.read_text()) if path.exists() else {}
    for name, value in changes.items():
        *sections, last = name.split("__")
        node = content
        for section in sections:
            node = node[section]
        node[last] = value
        if value is None:
            del node[last]
    path.write_text(json.dumps(content))


def two_depths(tmp_path, seeds=3, **options):
    """Depths 8 and 14, which are 2 points apart, with three seeds each; and the runs of each depth."""
    runs = [
        ({"model.depth": depth, "seed": seed}, (10.0 + depth / 3 + 0.01 * seed**2 * depth, 5.0))
        for depth in (8, 14)
        for seed in range(seeds)
    ]
    sweep = make_sweep(tmp_path / "s", runs, **options)
    return sweep, {d: sorted(sweep.runs.glob(f"depth={d},*")) for d in (8, 14)}
