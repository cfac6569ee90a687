"""Optuna's storage of a search, and its pruners, which stop runs that promise little."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_jax.errors import UserError
from resnet_jax.training.run_directory import RunDirectory

if TYPE_CHECKING:
    from resnet_jax.training.record import StopEarly

PRUNERS = ("median", "hyperband")


def ask_pruner(sweep: Mapping[str, Any]) -> "StopEarly | None":
    """Whether Optuna's pruner would stop a run, for the process that trains it.

    Args:
        sweep: content of sweep.json.
    """
    optuna, search = import_optuna(), sweep["search"]
    makers = {"median": optuna.pruners.MedianPruner, "hyperband": optuna.pruners.HyperbandPruner}
    if search["pruner"] is None:
        return None
    suggestions = optuna.load_study(
        study_name=search["name"],
        storage=open_storage(search["storage"]),
        pruner=makers[search["pruner"]](),
    )
    trial_ids = {run["id"]: run["trial_id"] for run in sweep["runs"]}

    def decide(run: RunDirectory, step: int, accuracy: float) -> bool:
        trial = optuna.trial.Trial(suggestions, trial_ids[run.path.name])
        trial.report(accuracy, step)
        return trial.should_prune()

    return decide


def import_optuna() -> Any:
    """The package, quiet.

    Raises:
        UserError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        fix = "run `pip install 'resnet-jax[search]'`"
        raise UserError("--search", "optuna", "needs optuna", fix) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def open_storage(place: str) -> Any:
    """Where Optuna keeps a search: a URL of a data base, or the path of a file."""
    optuna = import_optuna()
    if "://" in place:
        return place
    from optuna.storages.journal import JournalFileBackend

    Path(place).parent.mkdir(parents=True, exist_ok=True)
    return optuna.storages.JournalStorage(JournalFileBackend(place))
