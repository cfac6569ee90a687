"""Directories → a study: the runs, what it is called, and what its runs are compared with."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resnet_jax import origin
from resnet_jax.errors import UserError, printable
from resnet_jax.report.conditions import with_conditions
from resnet_jax.report.run import Run, flat_config, read_run
from resnet_jax.run_states import UNREADABLE
from resnet_jax.sweeps.sweep_directory import SweepDirectory, check_run
from resnet_jax.training.run_directory import RunDirectory


@dataclass(frozen=True)
class Study:
    """All runs of the directories of a report.

    Attributes:
        title, description: of the sweep; of run directories, their path.
        base: config that the runs differ from: dotted field → value.
        fields: those that a sweep overrides, in its order.
        runs: in the order of the study.
        repeats: ids of runs left out, as they repeat another's config.
        search: values were drawn by a search, so fields that move together do so by chance.
    """

    title: str
    description: str
    base: Mapping[str, Any]
    fields: tuple[str, ...]
    runs: tuple[Run, ...]
    repeats: tuple[str, ...] = ()
    search: bool = False


def read_study(paths: Sequence[str]) -> Study:
    """Read sweep directories, run directories, and folders of them, as one study.

    Raises:
        UserError: a directory does not exist or contains no run, sweep.json is corrupt, or a run or sweep
            that may come from somebody else has links to outside of it.
    """
    parts = [part for path in paths for part in _parts(Path(path), len(paths) > 1)]
    runs, repeats = _without_repeats(with_conditions([run for p in parts for run in p.runs]))
    if len(parts) == 1:
        return replace(parts[0], runs=runs, repeats=repeats)
    base = dict(runs[0].config)
    fields = tuple(dict.fromkeys(name for part in parts for name in part.fields))
    sweeps = [part for part in parts if part.fields]
    title = " + ".join(part.title for part in sweeps) if sweeps else printable(", ".join(paths))
    description = "\n\n".join(part.description for part in sweeps)
    search = any(part.search for part in parts)
    return Study(title, description, base, fields, runs, repeats, search)


def _parts(path: Path, prefix: bool) -> Iterator[Study]:
    if not path.is_dir():
        raise UserError("DIR", str(path), "no such directory", "give a run or sweep directory")
    found = False
    for place in _places(path):
        found = True
        name = str(place.relative_to(path))
        name = path.name if name == "." else f"{path.name}/{name}" if prefix else name
        name = printable(name)
        if SweepDirectory(place).exists():
            inside = f"{name}/" if place != path or prefix else ""
            try:
                yield _sweep(SweepDirectory(place), inside)
            except UserError as error:
                # Alone it is the answer; among others it must not hide them.
                if not inside:
                    raise
                yield _unreadable_sweep(SweepDirectory(place), inside, str(error))
        else:
            if place == path:
                origin.refuse_links(place)
            run = read_run(name, RunDirectory(place), {})
            yield Study(name, "", run.config, (), (run,))
    if not found:
        fix = "give the --workdir of a run or of a sweep, or a folder of them"
        raise UserError("DIR", str(path), "holds no run and no sweep", fix)


def _places(path: Path) -> Iterator[Path]:
    """Sweep and run directories at or below `path`; none inside another."""
    for directory, below, files in os.walk(path):
        if "sweep.json" in files or "config.json" in files:
            below.clear()
            yield Path(directory)
        below.sort()


def _sweep(directory: SweepDirectory, prefix: str) -> Study:
    content = directory.read(check_runs=False)
    try:
        base = flat_config(content["config"])
        title, name, description = (str(content[k]) for k in ("title", "name", "description"))
        entries = list(content["runs"])
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        return _unreadable_sweep(directory, prefix, f"{type(error).__name__}: {error}")
    if not entries:
        raise UserError("DIR", str(directory.path), "sweep.json lists no runs")
    runs, fields = [], dict[str, None]()
    for number, entry in enumerate(entries, 1):
        try:
            check_run(entry)
            planned = {**entry, "config": base | flat_config(entry["overrides"])}
            runs.append(read_run(prefix + entry["id"], directory.run(entry["id"]), planned))
            fields |= dict.fromkeys(entry["overrides"])
        except (UserError, LookupError, TypeError, ValueError) as error:
            reason = f"sweep.json, run {number}: {type(error).__name__}: {error}"
            runs.append(Run(f"{prefix}{number}", {}, UNREADABLE, reason))
    return Study(
        title or name,
        description.removeprefix(title).strip("\n"),
        base,
        tuple(fields),
        tuple(runs),
        search=bool(content.get("search")),
    )


def _unreadable_sweep(directory: SweepDirectory, prefix: str, reason: str) -> Study:
    """The runs of a sweep whose sweep.json cannot be read, and in its place an unreadable run."""
    runs = [Run(f"{prefix}sweep.json", {}, UNREADABLE, reason)]
    for path in sorted(directory.runs.glob("*")):
        if (path / "config.json").exists():
            name = printable(path.name)
            runs.append(read_run(prefix + name, RunDirectory(path), {}))
    return Study(directory.path.name, "", runs[-1].config, (), tuple(runs))


def _without_repeats(runs: Sequence[Run]) -> tuple[tuple[Run, ...], tuple[str, ...]]:
    """A run and its repetition under the same seed are one replicate; one that is done stays."""
    kept: dict[Any, Run] = {}
    repeats = []
    for run in runs:
        key = (run.seed, frozenset(run.conditions.items())) if run.config else run.id
        other = kept.get(key)
        if other is None:
            kept[key] = run
            continue
        better = run if run.state == "done" != other.state else other
        repeats.append((other if better is run else run).id)
        kept[key] = better
    return tuple(kept.values()), tuple(repeats)
