"""Search instead of a grid: Optuna suggests the runs, and stops those that promise little.

Optuna keeps its own storage: a file in the sweep directory, or one that several machines share, each
with a separate sweep directory. Trials count on all machines together.
"""

import os
import sys
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from resnet_jax.console import make_console
from resnet_jax.errors import UserError, choose, printable
from resnet_jax.run_states import FINAL
from resnet_jax.sweeps import executors
from resnet_jax.sweeps.grid import Choice, Range
from resnet_jax.sweeps.jobs import state
from resnet_jax.sweeps.plan import Plan, make_plan
from resnet_jax.sweeps.pruner import PRUNERS, import_optuna, open_storage
from resnet_jax.sweeps.run_ids import name_run
from resnet_jax.sweeps.runner import (
    UNFINISHED,
    SweepOptions,
    execute,
    print_end,
    refuse_other_study,
)
from resnet_jax.sweeps.study import Run, Study, make_run
from resnet_jax.sweeps.sweep_directory import SweepDirectory

OF_RUN = ("id", "overrides")


def search(
    study: Study,
    directory: SweepDirectory,
    options: SweepOptions,
    engine: str,
    trials: int | None,
    storage: str | None,
) -> int:
    """Train trials until their number is reached; the same command again resumes, or adds more.

    Args:
        study: with ranges.
        directory: where to.
        options: how; `max_parallel` trials are suggested at a time.
        engine: `optuna`.
        trials: on all machines.
        storage: a URL of a data base or the path of a file; None: a file in the directory.

    Returns:
        Exit code: 0 all trials have ended, 128 plus its number where a signal stopped it.

    Raises:
        UserError: an option is wrong, or the directory is of another study or in use.
    """
    choose("--search", engine, {"optuna": None})
    if trials is None or trials < 1:
        problem = "must be 1 or more: how many runs the search trains"
        raise UserError("--trials", trials, problem, "give e.g. --trials=20")
    if not study.ranges:
        problem = f"sweep() of {study.config_file} states no ranges, but a list of runs"
        raise UserError("--search", engine, problem, "leave out --search and --trials")
    options.check(directory, PRUNERS)
    refuse_other_study(study, directory)
    facts = {
        "engine": engine,
        "storage": storage or str(directory.path.absolute() / "optuna.log"),
        "name": study.name,
        "pruner": options.early_stop,
    }
    console = make_console()
    with executors.hold(directory, console.print) as lock:
        runs = Trials(study, directory, facts)
        while pending := runs.ask(trials, options.max_parallel or 1):
            plan = runs.plan(pending)
            exit_code = execute(directory, plan, options, lock, console)
            runs.tell()
            stopped = any(state(directory.run(run_id)) not in FINAL for run_id in plan.facts)
            if exit_code or stopped:
                return exit_code or UNFINISHED
    print_end(directory, console)
    console.print(printable(runs.best()))
    return 0


class Trials:
    """The runs of a search in this directory, as sweep.json has them.

    Args:
        study: with ranges.
        directory: of the sweep.
        facts: of the search, for sweep.json.
    """

    def __init__(self, study: Study, directory: SweepDirectory, facts: Mapping[str, Any]) -> None:
        optuna = import_optuna()
        self.study, self.directory, self.search = study, directory, facts
        self.suggestions = optuna.create_study(
            study_name=facts["name"],
            storage=open_storage(facts["storage"]),
            direction="maximize",
            load_if_exists=True,
        )
        # A sampler that is restarted, or one on another machine, must not repeat suggestions.
        place = f"{directory.path.absolute()} {len(self.suggestions.trials)}"
        seed = (study.config.seed + zlib.crc32(os.fsencode(place))) % 2**32
        self.suggestions.sampler = optuna.samplers.TPESampler(seed=seed)
        self.runs: list[Run] = []
        self.facts: dict[str, dict[str, Any]] = {}
        for entry in directory.read()["runs"] if directory.exists() else ():
            facts = {k: entry[k] for k in entry if k not in OF_RUN}
            self._add(entry["id"], entry["overrides"], facts)
        self.tell()

    def _add(self, run_id: str, overrides: dict[str, Any], facts: dict[str, Any]) -> Run:
        run = make_run(self.study.config, overrides, run_id)
        self.runs.append(run)
        self.facts[run.id] = facts
        return run

    def ask(self, trials: int, at_once: int) -> list[Run]:
        """Runs that have not ended: earlier ones, or else new ones up to `trials`."""
        left = [run for run in self.runs if state(self.directory.run(run.id)) not in FINAL]
        distributions = {name: _distribution(of) for name, of in self.study.ranges.items()}
        while not left and (room := min(at_once, trials - len(self.suggestions.trials))) > 0:
            for _ in range(room):
                trial = self.suggestions.ask(distributions)
                run_id = f"trial={trial.number},{name_run(trial.params)}"
                facts = {"trial": trial.number, "trial_id": trial._trial_id}
                try:
                    left.append(self._add(run_id, trial.params, facts))
                except UserError as error:
                    self._leave_out(trial.number, error)
            # What Optuna thinks of as running has to be known here, whatever happens next.
            self._write()
        return left

    def plan(self, runs: Sequence[Run]) -> Plan:
        """Check runs; wrong ones are reported and left out."""
        plan = make_plan(runs)
        for run_id, error in plan.errors.items():
            self._leave_out(self.facts.pop(run_id)["trial"], error)
        self.runs = [run for run in self.runs if run.id not in plan.errors]
        for run_id, facts in plan.facts.items():
            self.facts[run_id] |= facts
        self._write()
        return plan

    def _leave_out(self, number: int, error: UserError) -> None:
        from optuna.trial import TrialState

        # Ranges may contain combinations that are none.
        print(f"trial {number} is left out: {error}", file=sys.stderr)
        self.suggestions.tell(number, state=TrialState.FAIL)

    def _write(self) -> None:
        self.study.write(self.directory, self.runs, self.facts, search=self.search)

    def tell(self) -> None:
        """Tell Optuna how the trials ended that it still thinks of as running."""
        from optuna.trial import TrialState

        running = {t.number for t in self.suggestions.get_trials(states=[TrialState.RUNNING])}
        for run in self.runs:
            number, ended = self.facts[run.id]["trial"], state(self.directory.run(run.id))
            if number not in running or ended not in FINAL:
                continue
            if ended == "done":
                status = self.directory.run(run.id).read_status()
                self.suggestions.tell(number, status["result"]["accuracy"])
            else:
                pruned = ended == "stopped"
                self.suggestions.tell(
                    number, state=TrialState.PRUNED if pruned else TrialState.FAIL
                )

    def best(self) -> str:
        """The best trial of all machines, in words."""
        from optuna.trial import TrialState

        if not self.suggestions.get_trials(states=[TrialState.COMPLETE]):
            return "no trial has come to its end"
        best = self.suggestions.best_trial
        values = ", ".join(f"{field} = {value}" for field, value in best.params.items())
        return f"best: trial {best.number}, accuracy {best.value:.2%}, by {values}"


def _distribution(values: Range | Choice) -> Any:
    distributions = import_optuna().distributions
    if isinstance(values, Choice):
        return distributions.CategoricalDistribution(values.values)
    whole = isinstance(values.low, int) and isinstance(values.high, int)
    make = distributions.IntDistribution if whole else distributions.FloatDistribution
    return make(values.low, values.high, log=values.log)
