"""The command line. Each command imports what it needs only when it runs."""

import argparse
import contextlib
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from resnet_jax.arguments import make_parser
from resnet_jax.compiler import turn_off_ynnpack
from resnet_jax.config import FIELDS, Config, field_meant, load_config, override
from resnet_jax.console import exit_code, print_progress, standard_streams
from resnet_jax.errors import NotFiniteError, UserError, letters_of, printable
from resnet_jax.strict_json import to_json
from resnet_jax.training.compilation_cache import keep_compiled_programs
from resnet_jax.training.interruption import StopRequest, ended_at_once
from resnet_jax.training.launchers import find_processes

Command = Callable[[argparse.Namespace, dict[str, str]], int]
Together = Callable[[], contextlib.AbstractContextManager[bool]]
NOT_FINITE = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code."""
    with ended_at_once(), standard_streams():
        try:
            return exit_code(_run(argv))
        except SystemExit as stop:
            # argparse has printed its help or an error, or another process has.
            raise SystemExit(exit_code(int(stop.code or 0))) from None


def _run(argv: Sequence[str] | None) -> int:
    parser = make_parser()
    try:
        arguments, rest = parser.parse_known_args(argv)
        turn_off_ynnpack()
        arguments.slurm = _dotted("--slurm.", rest) if arguments.command == "sweep" else {}
        overrides = _dotted("--config.", rest)
        if rest:
            raise UserError("argument", rest[0], "is unknown", _meant(rest[0], arguments))
        return COMMANDS[arguments.command](arguments, overrides)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except NotFiniteError as error:
        print(f"error: {error}", file=sys.stderr)
        return NOT_FINITE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


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


def _train(arguments: argparse.Namespace, overrides: dict[str, str]) -> int:
    print_progress()
    with StopRequest(at_once=True) as stop, _processes(arguments, stop) as together:
        return _train_until(stop, together, arguments, overrides)


def _train_until(
    stop: StopRequest, together: Together, arguments: argparse.Namespace, overrides: dict[str, str]
) -> int:
    with together() as first:
        config = override(load_config(arguments.config), overrides)
        from resnet_jax.training.run_directory import RunDirectory

        run = RunDirectory(arguments.workdir, writes=first)
        run.claim(config.to_dict())
        keep_compiled_programs(config)
        from resnet_jax.training.experiment import make_experiment
        from resnet_jax.training.loop import train
        from resnet_jax.training.process_facts import refuse_other_processes
        from resnet_jax.training.progress import Reporter, result_rows, table

        starts, facts = not run.has_checkpoint(), run.stored_data()
        experiment = make_experiment(config, starts=starts, facts=facts)
        experiment.check_training()
        profile = None
        if arguments.profile is not None:
            from resnet_jax.training.profile import Profile, steps_to_profile

            profiled = steps_to_profile(arguments.profile, experiment.total_steps)
            profile = Profile(run.profile, profiled) if first else None
    checkpoints = sorted(run.checkpoint_steps())
    refuse_other_processes(config, experiment, command="train", checkpoints=checkpoints)
    with together():
        run.create(config.to_dict())
        run.write_data(experiment.facts)
    with together():
        run.wait_until_seen()
    reporter = Reporter(quiet=not first)
    exit_code = train([experiment], [run], reporter, stop=stop, profile=profile)
    if not first:
        return exit_code
    if profile is not None and not profile.begun:
        reporter.warn(f"no trace: no call of this command began in --profile={arguments.profile}")
    status = run.read_status()
    reporter.console.print(table(f"Result of {arguments.workdir}", result_rows(status)))
    if "error" in status:
        print(f"error: {printable(status['error'])}", file=sys.stderr)
    return exit_code


@contextlib.contextmanager
def _processes(
    arguments: argparse.Namespace, stop: StopRequest | None = None
) -> Iterator[Together]:
    """Find the other processes of this command; an error in the context ends all of them.

    Gives a context that gives whether this process is the first one. What is wrong in any of them in it is
    reported once.
    """
    options = arguments.coordinator, arguments.num_processes, arguments.process_id
    processes = find_processes(*options)
    if processes is None:
        yield lambda: contextlib.nullcontext(True)
        return
    from resnet_jax.training.hosts import connect, together

    connections = connect(processes)
    from resnet_jax.training.watch import errors_end_all

    with errors_end_all(connections, stop):
        yield together


def _sweep(arguments: argparse.Namespace, overrides: dict[str, str]) -> int:
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


def _evaluate(arguments: argparse.Namespace, overrides: dict[str, str]) -> int:
    with _processes(arguments) as together:
        return _evaluate_by(together, arguments, overrides)


def _evaluate_by(
    together: Together, arguments: argparse.Namespace, overrides: dict[str, str]
) -> int:
    from resnet_jax.training.run_directory import RunDirectory

    with together() as first:
        run = RunDirectory(arguments.workdir, writes=first)
        config = run.load_config(overrides)
    keep_compiled_programs(config)
    from resnet_jax.training.evaluate import evaluate_run
    from resnet_jax.training.progress import Reporter, table

    result = evaluate_run(run, config, arguments.step, arguments.split)
    if not first:
        return NOT_FINITE if result["loss"] is None else 0
    if arguments.json:
        print(to_json(result))
    elif result["loss"] is not None:
        shown = {name: _format(value) for name, value in result.items()}
        Reporter().console.print(table(f"Evaluation of {arguments.workdir}", shown))
    if result["loss"] is None:
        where = f"{arguments.workdir}, step {result['step']}, on {result['split']}"
        raise NotFiniteError(f"{where}: the loss or a logit is not finite")
    return 0


def _export(arguments: argparse.Namespace, overrides: dict[str, str]) -> int:
    from resnet_jax.training.run_directory import RunDirectory

    run = RunDirectory(arguments.workdir)
    config = run.load_config(overrides)
    keep_compiled_programs(config)
    from resnet_jax.training.export import export_run
    from resnet_jax.training.state import weights_of

    takes = export_run(run, config, arguments.out, arguments.step, arguments.raw)
    print(printable(arguments.out))
    averaged = ", averaged weights" if weights_of(config) == "averaged" else ""
    print(f"{takes}{averaged}", file=sys.stderr)
    return 0


def _summary(arguments: argparse.Namespace, overrides: dict[str, str]) -> int:
    config = override(load_config(arguments.config), overrides)
    from resnet_jax.training.progress import Reporter, parts_table
    from resnet_jax.training.summary import summarize_config

    summary = summarize_config(config)
    if arguments.json:
        print(to_json(summary))
    else:
        Reporter().console.print(parts_table(arguments.config, summary))
    return 0


def _format(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _report(arguments: argparse.Namespace, overrides: dict[str, str]) -> int:
    if overrides:
        raise UserError("argument", f"--config.{next(iter(overrides))}", "is unknown to report")
    from resnet_jax.report.write import write_report

    for path in write_report(arguments.directories, arguments.out, arguments.latex):
        print(printable(path))
    return 0


def _analyze(arguments: argparse.Namespace, overrides: dict[str, str]) -> int:
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


def _prepare(arguments: argparse.Namespace, overrides: dict[str, str]) -> int:
    if overrides:
        raise UserError("argument", f"--config.{next(iter(overrides))}", "is unknown to prepare")
    from resnet_jax.data.prepare import prepare

    print(printable(prepare(arguments.name, arguments.data_dir, arguments.manual_dir)))
    return 0


COMMANDS: dict[str, Command] = {
    "train": _train,
    "sweep": _sweep,
    "evaluate": _evaluate,
    "export": _export,
    "summary": _summary,
    "report": _report,
    "analyze": _analyze,
    "prepare": _prepare,
}
