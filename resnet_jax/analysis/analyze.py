"""The command `analyze`: open the networks, ask an instrument, write what it answers."""

import argparse
import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from resnet_jax.analysis.request import Answer, Request, drawn, plain
from resnet_jax.analysis.subject import Subject, open_config, open_runs
from resnet_jax.errors import NotFiniteError, UserError, printable, warn
from resnet_jax.models import DegenerateStatisticsError
from resnet_jax.strict_json import is_finite
from resnet_jax.strict_json import to_json as strict_json

# Results of the unchanged network. Where they are not finite, no other result means anything.
OUTPUTS = ("loss", "error", "accuracy")


def analyze(options: argparse.Namespace, overrides: Mapping[str, Any]) -> tuple[Answer, list[Path]]:
    """Run an instrument; each is a module of this package with a function `analyze(request)`.

    Args:
        options: of the command line.
        overrides: `--config.FIELD=VALUE`.

    Returns:
        Its answer and the files that were written.

    Raises:
        UserError: no such run, config, checkpoint or data, or something that the instrument cannot do.
        NotFiniteError: the outputs of a network are not finite.
    """
    if not 0 <= options.seed < 2**32:
        raise UserError("--seed", options.seed, "allowed: from 0 to 4294967295")
    subjects = _subjects(options, overrides)
    request = Request(subjects, options, _out(options))
    instrument = importlib.import_module(f"resnet_jax.analysis.{options.analysis}")
    try:
        with drawn():
            answer = instrument.analyze(request)
    except DegenerateStatisticsError as error:
        problem = "leave a batch norm one value per channel, which has no statistics"
        count = options.examples
        raise UserError(
            "--examples", count, problem, "take more at a time, or running statistics"
        ) from error
    for name, results in answer.results.items():
        _refuse_not_finite(name, results)
    return answer, request.write(answer)


def _refuse_not_finite(name: str, results: Mapping[str, Any]) -> None:
    """Raise where the outputs of a network are not finite; warn of other such numbers."""
    values = {number: np.asarray(value).tolist() for number, value in results.items()}
    wrong = [number for number, value in values.items() if not is_finite(value)]
    outputs = [number for number in wrong if number in OUTPUTS]
    if outputs:
        raise NotFiniteError(f"{name}: {', '.join(outputs)}: the network's outputs are not finite")
    if wrong:
        warn(f"{name}: not finite: {', '.join(wrong)}")


def _subjects(options: argparse.Namespace, overrides: Mapping[str, Any]) -> list[Subject]:
    if "workdir" not in options:
        if overrides:
            problem = f"is unknown to analyze {options.analysis}, which needs no network"
            raise UserError("argument", f"--config.{next(iter(overrides))}", problem)
        return []
    if bool(options.workdir) == bool(options.config):
        given = " and ".join([*options.workdir, options.config]) if options.config else None
        raise UserError("--workdir", given, "give it or --config, one of the two")
    if options.config:
        if options.step not in ("latest", "init"):
            raise UserError("--step", options.step, "a config has no checkpoints", "give --workdir")
        return [open_config(options.config, overrides)]
    return open_runs(options.workdir, overrides, options.step)


def _out(options: argparse.Namespace) -> Path:
    workdirs = vars(options).get("workdir", [])
    if options.out:
        out = Path(options.out)
    elif len(workdirs) == 1:
        out = Path(workdirs[0]) / "analysis"
    else:
        raise UserError("--out", None, "is needed except for a single run", "name a directory")
    if out.exists() and not out.is_dir():
        raise UserError("--out", str(out), "is no directory", "name another")
    there = next(parent for parent in (out, *out.absolute().parents) if parent.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError("--out", str(out), "cannot be written", "name another directory")
    return out


def results_table(title: str, results: Mapping[str, Mapping[str, Any]]) -> Table:
    """A column for each network, a row for each number."""
    table = Table(title=title, title_justify="left")
    table.add_column(style="bold")
    for network in results:
        table.add_column(printable(network), justify="right", overflow="fold")
    rows = dict.fromkeys(name for numbers in results.values() for name in numbers)
    for name in rows:
        cells = [numbers.get(name, "") for numbers in results.values()]
        table.add_row(printable(name.replace("_", " ")), *map(_format, cells))
    return table


def _format(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_format, value))
    return f"{value:.4g}" if isinstance(value, float) else printable(value)


def to_json(answer: Answer) -> str:
    """The results as one JSON object."""
    return strict_json(plain(answer.results))
