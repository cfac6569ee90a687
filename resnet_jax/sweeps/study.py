"""From a sweep file to its runs: every config checked before anything starts."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resnet_jax.config import (
    FIELDS,
    Config,
    ConfigFile,
    canonical,
    differences,
    find_field,
    flatten,
    open_config_file,
    override,
)
from resnet_jax.errors import UserError
from resnet_jax.sweeps.grid import Choice, Overrides, Range
from resnet_jax.sweeps.run_ids import name_run
from resnet_jax.sweeps.sweep_directory import SweepDirectory
from resnet_jax.training.run_directory import PROTOCOL

# A search maximises one accuracy, and that of other data or of another evaluation is another.
NOT_SEARCHED = ("data.name", "data.eval_split", *PROTOCOL)


@dataclass(frozen=True)
class Run:
    """A run of a study.

    Attributes:
        id: readable, and a function of the overrides alone.
        overrides: dotted field → value.
        config: the base config with the overrides.
    """

    id: str
    overrides: Overrides
    config: Config


@dataclass(frozen=True)
class Study:
    """What a sweep file states.

    Attributes:
        name, form, title, description, config_file: as of `SweepDirectory.write`.
        config: the base.
        runs: in the order of the file; none where it states a search.
        ranges: field → what a search tries; empty where it states runs.
    """

    name: str
    form: str | None
    title: str
    description: str
    config_file: str
    config: Config
    runs: list[Run]
    ranges: dict[str, Range | Choice]

    def write(
        self,
        directory: SweepDirectory,
        runs: Sequence[Run],
        facts: Mapping[str, Mapping[str, Any]],
        **others: Any,
    ) -> None:
        """Write sweep.json.

        Args:
            directory: of the sweep.
            runs: of the study, or those of the search so far.
            facts: run id → what else it says about the run (`plan.check`).
            **others: of the whole study.
        """
        directory.write(
            name=self.name,
            form=self.form,
            title=self.title,
            description=self.description,
            config_file=self.config_file,
            config=self.config.to_dict(),
            runs=[{"id": run.id, "overrides": run.overrides, **facts[run.id]} for run in runs],
            **others,
        )


def read_study(argument: str, overrides: Mapping[str, Any]) -> Study:
    """The study of a sweep file.

    Args:
        argument: `FILE` or `FILE:FORM`.
        overrides: of the base config, from the command line.

    Raises:
        UserError: the file is wrong, an override of a run is illegal, or two runs are the same.
    """
    file = open_config_file(argument)
    base = override(file.config(), overrides)
    lines = (file.module.__doc__ or "").strip().splitlines()
    stated, ranges = _stated(file)
    runs = [make_run(base, one) for one in stated]
    if not runs and not ranges:
        raise UserError("--config", file.path, "sweep() states no runs")
    _refuse_duplicates(runs, stated)
    return Study(
        name=Path(file.path).stem,
        form=file.variant,
        title=lines[0] if lines else Path(file.path).stem,
        description="\n".join(lines),
        config_file=file.path,
        config=base,
        runs=runs,
        ranges=ranges,
    )


def _stated(file: ConfigFile) -> tuple[list[Overrides], dict[str, Range | Choice]]:
    """What `sweep()` states: overrides of runs, or ranges of fields."""
    stated = file.call("sweep")
    if isinstance(stated, Mapping) and all(isinstance(v, Range | Choice) for v in stated.values()):
        return [], {field: _legal(field, values) for field, values in stated.items()}
    runs = (
        list(stated) if isinstance(stated, Iterable) and not isinstance(stated, Mapping) else None
    )
    if runs is None or not all(isinstance(one, Mapping) for one in runs):
        problem = "sweep() must return a list of {field: value}, or {field: range} for a search"
        raise UserError("--config", file.path, problem, "see resnet_jax/sweeps/grid.py")
    return [dict(one) for one in runs], {}


def _legal(field: str, values: Range | Choice) -> Range | Choice:
    """Ranges of a field that may be searched; of values that are spelled twice one choice is left."""
    find_field(field)
    if isinstance(values, Choice):
        values = Choice(tuple(dict.fromkeys(canonical(field, value) for value in values.values)))
    is_one = isinstance(values, Choice) and len(values.values) == 1
    if field in NOT_SEARCHED and not is_one:
        problem = "cannot be searched: accuracies on other data or views are not comparable"
        raise UserError(field, "a range", problem, "run one search for each value")
    return values


def make_run(base: Config, overrides: Overrides, run_id: str | None = None) -> Run:
    """A run of a study; its id is made of the overrides where none is given.

    Its overrides are in canonical spelling, so equal settings have one id.

    Raises:
        UserError: an override is illegal.
    """
    for field in overrides:
        find_field(field)
    try:
        spelled = {field: canonical(field, value) for field, value in overrides.items()}
        return Run(run_id or name_run(spelled), spelled, override(base, spelled))
    except UserError as error:
        raise of_run(run_id or name_run(overrides), error) from error


def of_run(run_id: str, error: UserError) -> UserError:
    """The error of a run's config, which says whose it is."""
    return UserError(f"run {run_id}: {error.field}", error.value, error.problem, error.fix)


def _refuse_duplicates(runs: Sequence[Run], stated: Sequence[Overrides]) -> None:
    """Refuse two runs that compute the same, however their values are spelled."""
    first: dict[str, int] = {}
    ids: dict[str, int] = {}
    for index, run in enumerate(runs):
        values = flatten(run.config.to_dict())
        kept = {name: value for name, value in values.items() if not FIELDS[name].runtime_only}
        other = first.setdefault(json.dumps(kept, sort_keys=True), index)
        other = min(other, ids.setdefault(run.id, index))
        if other == index:
            continue
        problem = f"is the same as {runs[other].id}"
        if runs[other].id == run.id:
            spellings = _spellings(stated[other], stated[index])
            problem = f"is stated twice{spellings and f', with {spellings}'}"
        raise UserError("sweep()", run.id, problem, "state each run once")


def _spellings(one: Overrides, other: Overrides) -> str:
    unlike = [name for name in one if repr(one[name]) != repr(other.get(name))]
    return ", ".join(f"{name} as {one[name]!r} and {other[name]!r}" for name in unlike)


def with_earlier_ids(study: Study, directory: SweepDirectory) -> Study:
    """The study with the ids that its runs have in a sweep directory, which an earlier version may have made.

    Raises:
        UserError: there, a run has the id that another run has now.
    """
    if not directory.exists():
        return study
    earlier = {_key(run["overrides"]): run["id"] for run in directory.read()["runs"]}
    runs = [replace(run, id=earlier.get(_key(run.overrides), run.id)) for run in study.runs]
    ids = [run.id for run in runs]
    for run_id in ids:
        if ids.count(run_id) > 1:
            problem = f"an earlier version gave the id {run_id} there to another run of this study"
            raise UserError("--workdir", str(directory.path), problem, "use another directory")
    return replace(study, runs=runs)


def _key(overrides: Mapping[str, Any]) -> str:
    spelled = {field: canonical(field, value) for field, value in overrides.items()}
    return json.dumps(spelled, sort_keys=True)


def refuse_changed_runs(study: Study, directory: SweepDirectory) -> None:
    """Check that what was trained in the directory is of the configs of the study.

    Raises:
        UserError: names the first run that is not.
    """
    for run in study.runs:
        earlier = directory.run(run.id)
        if (earlier.path / "config.json").exists():
            new = json.loads(json.dumps(run.config.to_dict()))
            lines = differences(earlier.read_config(), new)
            if lines:
                problem = f"was trained with another config: {'; '.join(lines)}"
                fix = "use another --workdir, or the config file as it was"
                raise UserError("run", run.id, problem, fix)
