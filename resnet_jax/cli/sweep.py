"""The command `sweep`."""

import argparse

from resnet_jax.cli.options import add_workdir
from resnet_jax.cli.parser import CommandParser
from resnet_jax.console import print_progress
from resnet_jax.errors import UserError

DESCRIPTION = """\
Train all runs that sweep() of a config file states. The same command again trains the rest; runs
that have ended are left alone. --config.FIELD=VALUE changes the base config."""
SLURM_OPTIONS = """options of Slurm's jobs:
  --slurm.KEY=VALUE, e.g. --slurm.partition=gpu --slurm.time=8:00:00"""
VECTORIZE = (
    "how runs that share programs are trained: off (a process each), turns, map, vmap, shard, or "
    "auto: the fastest for the devices"
)
EARLY_STOP = (
    "median: stop a run whose accuracy is below the median of the others at that step; in a search also "
    "hyperband"
)


def add_options(parser: CommandParser) -> None:
    """Add the options of `sweep`."""
    parser.epilog = SLURM_OPTIONS
    option = parser.add_argument
    option("--config", metavar="FILE[:FORM]", required=True, help="e.g. configs/sweeps/depth.py")
    add_workdir(option, "the sweep directory")
    option(
        "--dry_run", action="store_true", help="list the runs, their cost and time; train nothing"
    )
    option("--executor", metavar="NAME", default="local", help="local (processes here) or slurm")
    option("--max_parallel", type=int, metavar="N", help="processes or Slurm jobs at once")
    option("--vectorize", metavar="HOW", default="auto", help=VECTORIZE)
    option("--retry_failed", action="store_true", help="try failed runs again")
    option("--early_stop", metavar="RULE", help=EARLY_STOP)
    option(
        "--search",
        metavar="ENGINE",
        help="optuna: sweep() states ranges, from which it takes trials",
    )
    option("--trials", type=int, metavar="N", help="of the search, on all machines together")
    option(
        "--storage", metavar="URL", help="of the search, shared by machines; default: a file in DIR"
    )


def run(arguments: argparse.Namespace, overrides: dict[str, str]) -> int:
    """Train the runs of a study, or list them; returns the exit code."""
    from resnet_jax.sweeps.runner import SweepOptions, dry_run, sweep
    from resnet_jax.sweeps.study import read_study
    from resnet_jax.sweeps.sweep_directory import SweepDirectory

    options = SweepOptions(
        arguments.executor,
        arguments.max_parallel,
        arguments.vectorize,
        arguments.retry_failed,
        arguments.early_stop,
        arguments.slurm,
    )
    study = read_study(arguments.config, overrides)
    directory = SweepDirectory(arguments.workdir)
    if arguments.search is None:
        for name in ("trials", "storage"):
            if getattr(arguments, name) is not None:
                problem, fix = "is an option of a search", "it needs --search=optuna"
                raise UserError(f"--{name}", getattr(arguments, name), problem, fix)
    if arguments.dry_run:
        dry_run(study, directory, options, searches=arguments.search is not None)
        return 0
    print_progress()
    if arguments.search is not None:
        from resnet_jax.sweeps.search import search

        engine, trials, storage = arguments.search, arguments.trials, arguments.storage
        return search(study, directory, options, engine, trials, storage)
    return sweep(study, directory, options)
