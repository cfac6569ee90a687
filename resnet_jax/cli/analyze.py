"""The command `analyze`."""

import argparse

from resnet_jax.analysis_arguments import add_instruments
from resnet_jax.config import default_config
from resnet_jax.errors import printable
from resnet_jax.training.compilation_cache import keep_compiled_programs

DESCRIPTION = """\
Instruments that take a trained network apart. Each writes its arrays (NAME.npz), what they
are (NAME.json) and its plots (NAME_*.png). The same command goes on where it was stopped.
--config.FIELD=VALUE may change where a run is (data.data_dir, …)."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add a sub-command for each instrument."""
    add_instruments(parser)


def run(arguments: argparse.Namespace, overrides: dict[str, str]) -> int:
    """Ask an instrument and print its results; returns the exit code."""
    from resnet_jax.analysis.analyze import analyze, results_table, to_json
    from resnet_jax.training.progress import Reporter

    keep_compiled_programs(default_config())
    answer, paths = analyze(arguments, overrides)
    if arguments.json:
        print(to_json(answer))
        return 0
    Reporter().console.print(results_table(arguments.analysis, answer.results))
    for path in paths:
        print(printable(path))
    return 0
