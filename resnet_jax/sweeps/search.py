"""Search instead of a grid: Optuna suggests the runs, and stops those that promise little.

Optuna keeps its own storage: a file in the sweep directory, or one that several machines share, each
with a sweep directory of its own. Trials count on all machines together.
"""

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from resnet_jax.errors import UserError, choose
from resnet_jax.sweeps import executors
from resnet_jax.sweeps.grid import Choice, Range
from resnet_jax.sweeps.jobs import FINAL, state
from resnet_jax.sweeps.plan import make_plan
from resnet_jax.sweeps.runner import SweepOptions, execute, print_end, refuse_other_study
from resnet_jax.sweeps.study import Run, Study, make_run
from resnet_jax.sweeps.sweep_directory import SweepDirectory
from resnet_jax.training.run_directory import RunDirectory

if TYPE_CHECKING:
    import optuna

    from resnet_jax.training.loop import StopEarly

PRUNERS = ("median", "hyperband")


def search(
    study: Study,
    directory: SweepDirectory,
    options: SweepOptions,
    engine: str,
    trials: int | None,
    storage: str | None,
) -> int:
    """Train trials until there are so many; the same again goes on, or adds more.

    Args:
        study: with ranges.
        directory: where to.
        options: how; `max_parallel` trials are suggested at a time.
        engine: `optuna`.
        trials: on all machines.
        storage: a URL of a data base or the path of a file; None: a file in the directory.

    Returns:
        Exit code: 0 all trials have ended, 130 or 143 stopped by SIGINT or SIGTERM.

    Raises:
        UserError: an option is wrong, or the directory is of another study or in use.
    """
    choose("--search", engine, {"optuna": None})
    if trials is None or trials < 1:
        raise UserError("--trials", trials, "must be 1 or more")
    if not study.ranges:
        raise UserError("--search", engine, f"sweep() of {study.config_file} states no ranges")
    dataclasses.replace(options, rules=PRUNERS).check()
    refuse_other_study(study, directory)
    optuna = _optuna()
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    with executors.hold(directory, console.print) as lock:
        facts: dict[str, Any] = {
            "engine": engine,
            "storage": storage or str(directory.path.absolute() / "optuna.log"),
            "name": study.name,
            "pruner": options.early_stop,
        }
        suggestions = optuna.create_study(
            study_name=study.name,
            storage=_storage(facts["storage"]),
            sampler=optuna.samplers.TPESampler(seed=study.config.seed),
            direction="maximize",
            load_if_exists=True,
        )
        # A sampler that begins anew would suggest again what it did at first.
        seed = study.config.seed + len(suggestions.trials)
        suggestions.sampler = optuna.samplers.TPESampler(seed=seed)
        runs = Trials(study, directory, suggestions, facts)
        while runs.ask(trials, options.max_parallel or 1):
            exit_code = execute(directory, make_plan(runs.unfinished()), options, lock, console)
            if exit_code:
                return exit_code
            runs.tell()
    print_end(directory, console)
    if suggestions.get_trials(states=[optuna.trial.TrialState.COMPLETE]):
        best = suggestions.best_trial
        console.print(f"best: {best.value:.2%} by {best.user_attrs['run']} {best.params}")
    return 0


class Trials:
    """The runs of a search in this directory, as sweep.json has them.

    Args:
        study: with ranges.
        directory: of the sweep.
        suggestions: Optuna's study.
        facts: of the search, for sweep.json.
    """

    def __init__(
        self,
        study: Study,
        directory: SweepDirectory,
        suggestions: "optuna.Study",
        facts: Mapping[str, Any],
    ) -> None:
        self.study, self.directory = study, directory
        self.suggestions, self.search = suggestions, facts
        self.runs: list[Run] = []
        self.facts: dict[str, dict[str, Any]] = {}
        for entry in directory.read()["runs"] if directory.exists() else ():
            run = make_run(study.config, entry["overrides"], f"trial={entry['trial']},")
            self.runs.append(run)
            self.facts[run.id] = {k: v for k, v in entry.items() if k not in ("id", "overrides")}
        self.tell()

    def unfinished(self) -> list[Run]:
        """Those that have not ended."""
        return [run for run in self.runs if state(self.directory.run(run.id)) not in FINAL]

    def ask(self, trials: int, at_once: int) -> bool:
        """Take so many new trials, unless some were left from before; False: there are enough."""
        distributions = {name: _distribution(of) for name, of in self.study.ranges.items()}
        while not self.unfinished():
            room = min(at_once, trials - len(self.suggestions.trials))
            if room <= 0:
                return False
            for _ in range(room):
                self._add(self.suggestions.ask(distributions))
            self.study.write(self.directory, self.runs, self.facts, search=self.search)
        return True

    def _add(self, trial: "optuna.Trial") -> None:
        from optuna.trial import TrialState

        try:
            run = make_run(self.study.config, trial.params, f"trial={trial.number},")
            facts = make_plan([run]).facts[run.id]
        except UserError as error:
            # Ranges may contain combinations that are none.
            print(f"trial {trial.number} is left out: {error}", file=sys.stderr)
            self.suggestions.tell(trial, state=TrialState.FAIL)
            return
        trial.set_user_attr("run", run.id)
        self.runs.append(run)
        self.facts[run.id] = {"trial": trial.number, "trial_id": trial._trial_id, **facts}

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


def ask_pruner(sweep: Mapping[str, Any]) -> "StopEarly | None":
    """Whether Optuna's pruner would stop a run, for the process that trains it.

    Args:
        sweep: content of sweep.json.
    """
    optuna, search = _optuna(), sweep["search"]
    makers = {"median": optuna.pruners.MedianPruner, "hyperband": optuna.pruners.HyperbandPruner}
    if search["pruner"] is None:
        return None
    suggestions = optuna.load_study(
        study_name=search["name"],
        storage=_storage(search["storage"]),
        pruner=makers[search["pruner"]](),
    )
    trial_ids = {run["id"]: run["trial_id"] for run in sweep["runs"]}

    def decide(run: RunDirectory, step: int, accuracy: float) -> bool:
        trial = optuna.trial.Trial(suggestions, trial_ids[run.path.name])
        trial.report(accuracy, step)
        return trial.should_prune()

    return decide


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        fix = "run `pip install 'resnet-jax[search]'`"
        raise UserError("--search", "optuna", "needs optuna", fix) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _storage(place: str) -> Any:
    optuna = _optuna()
    if "://" in place:
        return place
    from optuna.storages.journal import JournalFileBackend

    Path(place).parent.mkdir(parents=True, exist_ok=True)
    return optuna.storages.JournalStorage(JournalFileBackend(place))


def _distribution(values: Range | Choice) -> Any:
    distributions = _optuna().distributions
    if isinstance(values, Choice):
        return distributions.CategoricalDistribution(values.values)
    whole = isinstance(values.low, int) and isinstance(values.high, int)
    make = distributions.IntDistribution if whole else distributions.FloatDistribution
    return make(values.low, values.high, log=values.log)
