"""The command `analyze`: a sub-command for each instrument."""

import argparse

from resnet_jax.analysis.instruments import INSTRUMENTS
from resnet_jax.cli.parser import Add, CommandParser
from resnet_jax.config import Config
from resnet_jax.errors import printable
from resnet_jax.paths import local_path
from resnet_jax.training.compilation_cache import keep_compiled_programs

DESCRIPTION = """\
Instruments that take a trained network apart. Each writes its arrays (NAME.npz), what they
are (NAME.json) and its plots (NAME_*.png). The same command resumes where it was stopped.
--config.FIELD=VALUE may change where a run is (data.data_dir, …)."""
EXAMPLES = "examples that are looked at, drawn by --seed; 0: all of the split"


def add_options(parser: CommandParser) -> None:
    """Add the instruments."""
    lines = {name: instrument.help_line for name, instrument in INSTRUMENTS.items()}
    parser.add_commands("analysis", "NAME", lines, _add_options)


def _add_options(name: str, parser: CommandParser) -> None:
    instrument = INSTRUMENTS[name]
    parser.description = instrument.description
    option = parser.add_argument
    where = "where files go; default: analysis in the run directory"
    option("--out", metavar="DIR", type=local_path("--out"), help=where)
    option("--seed", type=int, default=0, help="of everything that is drawn at random; default 0")
    option("--json", action="store_true", help="print the results as one JSON object")
    if instrument.examples is not None:
        _add_networks(option, instrument.examples)
        parser.set_defaults(usual_examples=instrument.examples)
    for option_name, how in instrument.options.items():
        option(option_name, **how)


def _add_networks(option: Add, examples: int) -> None:
    option(
        "--workdir",
        metavar="DIR",
        type=local_path("--workdir"),
        nargs="+",
        action="extend",
        default=[],
        help="run directories",
    )
    option("--config", metavar="FILE", help="or a config, for its network at initialisation")
    option("--step", default="latest", help="latest, best, init, or the number of a checkpoint")
    option("--split", help="of the data; default: the one that the run evaluates")
    usual = f"{examples}, or all where there are fewer" if examples else "0"
    option("--examples", type=int, metavar="N", help=f"{EXAMPLES}; default {usual}")


def run(arguments: argparse.Namespace, overrides: dict[str, str]) -> int:
    """Ask an instrument and print its results; returns the exit code."""
    from resnet_jax.analysis.analyze import analyze, results_table, to_json
    from resnet_jax.training.progress import Reporter

    keep_compiled_programs(Config())
    answer, paths = analyze(arguments, overrides)
    if arguments.json:
        print(to_json(answer))
        return 0
    Reporter().console.print(results_table(arguments.analysis, answer.results))
    for path in paths:
        print(printable(path))
    return 0
