"""The command `evaluate`."""

import argparse
from typing import Any

from resnet_jax.cli.options import JSON, STEP, add_workdir
from resnet_jax.cli.parser import CommandParser
from resnet_jax.cli.processes import Together, add_processes, processes
from resnet_jax.errors import NotFiniteError
from resnet_jax.strict_json import to_json
from resnet_jax.training.compilation_cache import keep_compiled_programs

DESCRIPTION = """\
Evaluate a checkpoint of a run: every example of a split, once. --config.FIELD=VALUE may
change where and how (data.data_dir, parallel.num_devices, evaluate.scales, …)."""


def add_options(parser: CommandParser) -> None:
    """Add the options of `evaluate`."""
    option = parser.add_argument
    add_workdir(option)
    option("--split", help="e.g. train; default: the one of the training")
    option("--step", default="latest", help=STEP)
    option("--json", action="store_true", help=JSON)
    add_processes(option)


def run(arguments: argparse.Namespace, overrides: dict[str, str]) -> int:
    """Evaluate a run and print the result; returns the exit code.

    Raises:
        NotFiniteError: the loss or a logit is not finite.
    """
    with processes(arguments) as together:
        return _evaluate(together, arguments, overrides)


def _evaluate(together: Together, arguments: argparse.Namespace, overrides: dict[str, str]) -> int:
    from resnet_jax.training.run_directory import RunDirectory

    with together() as first:
        run = RunDirectory(arguments.workdir, writes=first)
        config = run.load_config(overrides)
    keep_compiled_programs(config)
    from resnet_jax.training.evaluate import evaluate_run
    from resnet_jax.training.progress import Reporter, table

    result = evaluate_run(run, config, arguments.step, arguments.split)
    if not first:
        return NotFiniteError.exit_code if result["loss"] is None else 0
    if arguments.json:
        print(to_json(result))
    elif result["loss"] is not None:
        shown = {name: _format(value) for name, value in result.items()}
        Reporter().console.print(table(f"Evaluation of {arguments.workdir}", shown))
    if result["loss"] is None:
        where = f"{arguments.workdir}, step {result['step']}, on {result['split']}"
        raise NotFiniteError(f"{where}: the loss or a logit is not finite")
    return 0


def _format(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
