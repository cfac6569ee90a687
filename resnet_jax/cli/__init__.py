"""The command line. The module of a command is imported when it is chosen, and JAX when it runs."""

import argparse
import importlib
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from resnet_jax import __version__
from resnet_jax.cli.parser import CommandParser
from resnet_jax.compiler import turn_off_ynnpack
from resnet_jax.config import FIELDS, field_meant
from resnet_jax.console import exit_code, standard_streams
from resnet_jax.errors import NotFiniteError, UserError, letters_of
from resnet_jax.training.interruption import ended_at_once

# Each is a module of this package with `DESCRIPTION`, `add_options(parser)` and
# `run(arguments, overrides)`, which returns the exit code. In the order of `--help`.
COMMANDS = {
    "train": "train, or resume a run that was stopped",
    "evaluate": "evaluate a checkpoint of a run on a whole split",
    "export": "write the network of a run as StableHLO, ONNX or PyTorch weights",
    "summary": "what each part of a network puts out, costs and sees",
    "sweep": "train the runs of a study, or the rest of them",
    "report": "write a page of tables, plots and comparisons from run directories",
    "analyze": "look into trained networks: why residual nets work",
    "prepare": "prepare a TFDS data set on disk",
}
DESCRIPTION = "Train and study residual networks in JAX."
EXIT_CODES = """exit codes:
  0  done
  1  a bug, or the machine failed
  2  the input is wrong; one line says what and how to fix it
  3  the training diverged, or the outputs of the network are not finite
  128 + N  stopped by signal N, e.g. 130 by Ctrl-C, 143 by SIGTERM; training has saved, and the
     same command resumes
  141  the reader of the result left early, e.g. `| head`"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code."""
    with ended_at_once(), standard_streams():
        try:
            return exit_code(_run(argv))
        except SystemExit as stop:
            # argparse has printed its help or an error, or another process has.
            raise SystemExit(exit_code(int(stop.code or 0))) from None


def _run(argv: Sequence[str] | None) -> int:
    parser = _make_parser()
    try:
        arguments, rest = parser.parse_known_args(argv)
        turn_off_ynnpack()
        if arguments.command == "sweep":
            arguments.slurm = _dotted("--slurm.", rest)
        overrides = _dotted("--config.", rest)
        if rest:
            raise UserError("argument", rest[0], "is unknown", _meant(rest[0], arguments))
        return _module(arguments.command).run(arguments, overrides)
    except (UserError, NotFiniteError) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _make_parser() -> CommandParser:
    parser = CommandParser(prog="resnet-jax", description=DESCRIPTION, epilog=EXIT_CODES)
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_commands("command", "COMMAND", COMMANDS, _add_options)
    return parser


def _add_options(command: str, parser: CommandParser) -> None:
    parser.description = _module(command).DESCRIPTION
    _module(command).add_options(parser)


def _module(command: str) -> Any:
    return importlib.import_module(f"resnet_jax.cli.{command}")


def _meant(argument: str, arguments: argparse.Namespace) -> str:
    """A hint at the option that is meant by an unknown one: `--dry-run`, `--lr`."""
    name, _, value = argument.lstrip("-").partition("=")
    if name.startswith("config."):
        return f"did you mean --{name}={shlex.quote(value) if value else 'VALUE'}?"
    if not argument.startswith("--"):
        return "options are written --NAME=VALUE; see --help"
    options = {letters_of(option): option for option in vars(arguments)}
    if letters_of(name) in options:
        return f"did you mean --{options[letters_of(name)]}?"
    field = name if name in FIELDS else field_meant(name)
    if field is None:
        return "see --help"
    if "epoch" in name and value.isdecimal():
        value = f"{value} epochs"
    quoted = shlex.quote(value) if value else "VALUE"
    return f"did you mean --config.{field}={quoted}?"


def _dotted(prefix: str, rest: list[str]) -> dict[str, str]:
    """Take `--prefix.NAME=VALUE` and `--prefix.NAME VALUE` out of `rest`, as {name: text}."""
    found, left = {}, []
    while rest:
        argument = rest.pop(0)
        if not argument.startswith(prefix):
            left.append(argument)
            continue
        name, equals, value = argument.removeprefix(prefix).partition("=")
        if not equals:
            if not rest:
                raise UserError(argument, None, "has no value", f"write {argument}=VALUE")
            value = rest.pop(0)
        found[name] = value
    rest[:] = left
    return found
