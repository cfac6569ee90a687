"""The command `sweep`: from a sweep file to runs that have ended."""

import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from rich.console import Console
from rich.table import Table

from resnet_jax.console import make_console
from resnet_jax.errors import UserError, choose, printable, warn
from resnet_jax.run_states import ENDED, FINAL
from resnet_jax.sweeps import executors, slurm
from resnet_jax.sweeps.jobs import STRATEGIES, Job, state
from resnet_jax.sweeps.live import LiveTable, duration
from resnet_jax.sweeps.plan import Plan, make_jobs, make_legal_plan
from resnet_jax.sweeps.study import Study, refuse_changed_runs
from resnet_jax.sweeps.sweep_directory import SweepDirectory
from resnet_jax.wording import first_few

UNFINISHED = 1
EXECUTORS = ("local", "slurm")


@dataclass(frozen=True)
class SweepOptions:
    """How a sweep runs.

    Attributes:
        executor: one of `EXECUTORS`.
        max_parallel: processes, or jobs of Slurm, at once.
        vectorize: how runs of one program are trained, one of `jobs.STRATEGIES`.
        retry_failed: try failed runs again.
        early_stop: `median`, or in a search `hyperband`, or None.
        slurm: options of the jobs.
    """

    executor: str = "local"
    max_parallel: int | None = None
    vectorize: str = "auto"
    retry_failed: bool = False
    early_stop: str | None = None
    slurm: Mapping[str, str] = field(default_factory=dict)

    def check(self, directory: SweepDirectory, rules: Sequence[str] = ("median",)) -> None:
        """Raises UserError where an option is none; `rules` are what `early_stop` may be."""
        choose("--executor", self.executor, dict.fromkeys(EXECUTORS))
        choose("--vectorize", self.vectorize, dict.fromkeys(STRATEGIES))
        if self.max_parallel is not None and self.max_parallel < 1:
            raise UserError("--max_parallel", self.max_parallel, "must be 1 or more")
        if self.early_stop is not None:
            choose("--early_stop", self.early_stop, dict.fromkeys(rules))
        if self.slurm and self.executor != "slurm":
            raise UserError("--slurm", dict(self.slurm), "needs --executor=slurm")
        if self.executor == "slurm":
            slurm.refuse_directory(directory)


def sweep(study: Study, directory: SweepDirectory, options: SweepOptions) -> int:
    """Train the runs of a study that have not ended yet; the same command again resumes.

    Args:
        study: what to train.
        directory: where to; need not exist yet.
        options: how.

    Returns:
        Exit code: 0 all runs have ended, 1 some failed or were cancelled, 128 plus its
        number where a signal stopped it.

    Raises:
        UserError: a run is illegal, or the directory is of another study or in use.
    """
    options.check(directory)
    refuse_ranges(study)
    refuse_other_study(study, directory)
    refuse_changed_runs(study, directory)
    plan = make_legal_plan(study.runs)
    print_warnings(plan)
    console = make_console()
    with executors.hold(directory, console.print) as lock:
        study.write(directory, study.runs, plan.facts)
        exit_code = execute(directory, plan, options, lock, console)
    print_end(directory, console)
    if any(state(directory.run(run_id)) == "failed" for run_id in plan.facts):
        console.print("the same command with --retry_failed trains those that failed again")
    return exit_code or (0 if all_ended(directory, plan.facts) else UNFINISHED)


def execute(
    directory: SweepDirectory, plan: Plan, options: SweepOptions, lock: int, console: Console
) -> int:
    """Train the runs of a plan that have not ended.

    Args:
        directory: whose sweep.json states the runs.
        plan: the runs.
        options: how.
        lock: what `executors.hold` yields.
        console: of the live table.

    Returns:
        Exit code: 0 all have ended, 128 plus its number where a signal stopped it.
    """
    costs = {run_id: facts["work"] for run_id, facts in plan.facts.items()}
    groups = open_groups(directory, plan, options)
    together = options.vectorize != "off"
    jobs = make_jobs(groups, together, options.max_parallel or 1)

    def command(job: Job) -> list[str]:
        words = [sys.executable, "-m", "resnet_jax.sweeps.worker", f"--sweep={directory.path}"]
        words.append(f"--vectorize={options.vectorize}")
        words += ["--retry_failed"] if options.retry_failed else []
        words += [f"--early_stop={options.early_stop}"] if options.early_stop else []
        return [*words, *job.runs]

    with LiveTable(directory, list(costs), costs, console) as live:
        if options.executor == "slurm":
            submitted = slurm.submit(
                jobs,
                command,
                directory,
                options=options.slurm,
                max_parallel=options.max_parallel,
            )
            live.console.print(f"{len(submitted)} jobs submitted to Slurm")
            return slurm.wait(directory, tick=live.tick, say=console.print)
        return executors.run_locally(
            jobs,
            command,
            directory,
            lock,
            max_parallel=options.max_parallel or 1,
            devices=executors.find_devices(),
            tick=live.tick,
        )


def open_groups(directory: SweepDirectory, plan: Plan, options: SweepOptions) -> list[list[str]]:
    """Ids of the runs that have not ended, by the programs that they share."""
    over = [name for name in FINAL if not (options.retry_failed and name == "failed")]
    left = [[i for i in group if state(directory.run(i)) not in over] for group in plan.groups]
    return [group for group in left if group]


def _processes(number: int) -> str:
    return f"{number} process{'' if number == 1 else 'es'}"


def print_warnings(plan: Plan) -> None:
    """What is legal in some runs and probably not meant."""
    for warning, run_ids in plan.warnings.items():
        warn(f"{first_few(run_ids)}: {warning}")


def dry_run(
    study: Study, directory: SweepDirectory, options: SweepOptions, searches: bool = False
) -> None:
    """Print the runs of a study with their cost; nothing is written to the directory.

    Raises:
        UserError: as of `sweep`.
    """
    if searches:
        raise UserError("--dry_run", True, "a search has no list of runs", "leave it out")
    options.check(directory)
    refuse_ranges(study)
    refuse_other_study(study, directory)
    refuse_changed_runs(study, directory)
    plan = make_legal_plan(study.runs, timed=True)
    print_warnings(plan)
    group_of = {run_id: n for n, group in enumerate(plan.groups, 1) for run_id in group}
    table = Table(title=printable(study.title), title_justify="left", show_footer=True)
    groups = open_groups(directory, plan, options)
    jobs = make_jobs(groups, options.vectorize != "off", options.max_parallel or 1)
    seconds = plan.seconds(jobs)
    training = sum(plan.facts[run_id]["seconds"] for job in jobs for run_id in job.runs)
    heads = {
        "run": f"{len(study.runs)} runs",
        "state": "",
        "program": str(len(plan.groups)),
        "parameters": "",
        "multiply-adds": "",
        "steps": f"{sum(plan.facts[run.id]['steps'] for run in study.runs):,}",
        "time": f"about {duration(seconds)}",
    }
    for name, footer in heads.items():
        side: Literal["left", "right"] = "left" if name in ("run", "state") else "right"
        table.add_column(name, footer=footer, justify=side, no_wrap=name != "run", overflow="fold")
    for run in study.runs:
        facts = plan.facts[run.id]
        table.add_row(
            printable(run.id),
            state(directory.run(run.id)),
            str(group_of[run.id]),
            f"{facts['parameters']:,}",
            f"{facts['macs'] / 1e6:,.1f} M",
            f"{facts['steps']:,}",
            duration(facts["seconds"]),
        )
    # A pipe has no width; ids are to stay whole there.
    console = make_console(soft_wrap=False, width=None if sys.stdout.isatty() else 200)
    console.print(table)
    console.print(
        f"Runs with the same program share its compilation. The total is of the {sum(map(len, groups))} runs that "
        f"are left, one process after the other on this machine: {duration(training)} of training, evaluations and "
        f"saves, and {duration(seconds - training)} to check them, start {_processes(len(jobs))} and compile. It was measured on "
        "the networks with the cheapest and the dearest step."
    )


def refuse_ranges(study: Study) -> None:
    """Raises UserError where the study is a search, which has no runs yet."""
    if study.ranges:
        problem = "states ranges, so it is a search"
        raise UserError("--config", study.config_file, problem, "add --search=optuna --trials=N")


def refuse_other_study(study: Study, directory: SweepDirectory) -> None:
    """Raises UserError where the directory holds something else."""
    path = directory.path
    if directory.exists():
        there = directory.read()
        if (there["name"], there["form"]) != (study.name, study.form):
            name = there["name"] + (f":{there['form']}" if there["form"] else "")
            raise UserError(
                "--workdir", str(path), f"holds the sweep {name}", "use another directory"
            )
    elif (path / "config.json").exists():
        problem, fix = "is the directory of a run, not of a sweep", "use another directory"
        raise UserError("--workdir", str(path), problem, fix)
    elif path.is_dir() and any(not child.name.startswith(".") for child in path.iterdir()):
        raise UserError(
            "--workdir", str(path), "is not empty and holds no sweep", "use a new directory"
        )


def all_ended(directory: SweepDirectory, runs: Iterable[str]) -> bool:
    """Whether all of these runs have ended; a failed run has not."""
    return all(state(directory.run(run_id)) in ENDED for run_id in runs)


def print_end(directory: SweepDirectory, console: Console) -> None:
    """How many runs ended how, why some did not, and what to do next."""
    ids = [run["id"] for run in directory.read()["runs"]]
    counts = Counter(state(directory.run(run_id)) for run_id in ids)
    said = ", ".join(f"{count} {name}" for name, count in counts.items())
    console.print(f"{len(ids)} runs: {said}")
    for run_id in ids:
        if state(directory.run(run_id)) in ("failed", "diverged"):
            status = directory.run(run_id).read_status()
            reason = f"{run_id}: {status['state']}: {status.get('error', '')}"
            console.print(printable(reason))
    others = {path.name for path in directory.runs.glob("*") if path.is_dir()} - {*ids}
    if others:
        console.print(f"{len(others)} runs there are no longer in the study, nor in its report")
    console.print(f"report: python launch.py report {printable(shlex.quote(str(directory.path)))}")
