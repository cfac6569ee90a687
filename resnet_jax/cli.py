"""The command line. Each command imports what it needs only when it runs."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from resnet_jax import __version__
from resnet_jax.config import describe_fields
from resnet_jax.config_file import load_config, override
from resnet_jax.errors import UserError
from resnet_jax.training.compilation_cache import keep_compiled_programs

DESCRIPTION = "Train and study residual networks in JAX."
EXIT_CODES = """exit codes:
  0  done
  1  a bug, or the machine failed
  2  the input is wrong; one line says what and how to mend it
  3  the training diverged
  130, 143  stopped by Ctrl-C or SIGTERM after saving; the same command goes on"""
FIELDS_TITLE = (
    "config fields (also --config.FIELD=VALUE; durations are '64000 steps' or '90 epochs'):"
)

CONFIG = "e.g. configs/cifar10.py"
WORKDIR = "the run directory"
STEP = "latest, best, or the number of a checkpoint"
JSON = "print one JSON object"
VECTORIZE = (
    "how runs that share programs are trained: off (a process each), turns, map, vmap, shard, or "
    "auto: the fastest for the devices"
)
EARLY_STOP = (
    "median: stop a run whose accuracy is below the median of the others at that step; in a search also "
    "hyperband"
)
SLURM_OPTIONS = """options of Slurm's jobs:
  --slurm.KEY=VALUE, e.g. --slurm.partition=gpu --slurm.time=8:00:00"""
Run = Callable[[argparse.Namespace, dict[str, str]], int]
Add = Callable[..., argparse.Action]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="resnet-jax",
        description=DESCRIPTION,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, run: Run, help_line: str, description: str, epilog: str = "") -> Add:
        command = commands.add_parser(
            name,
            help=help_line,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.set_defaults(run=run)
        return command.add_argument

    option = add(
        "train",
        _train,
        "train, or go on with a run that was stopped",
        "Train the experiment of a config file. The same command again goes on with a run that\n"
        "was stopped.",
        f"{FIELDS_TITLE}\n{describe_fields()}",
    )
    option("--config", metavar="FILE", required=True, help=CONFIG)
    option("--workdir", metavar="DIR", required=True, help=WORKDIR)

    option = add(
        "evaluate",
        _evaluate,
        "evaluate a checkpoint of a run on a whole split",
        "Evaluate a checkpoint of a run: every example of a split, once. --config.FIELD=VALUE may\n"
        "change where and how (data.data_dir, parallel.num_devices, evaluate.scales, …).",
    )
    option("--workdir", metavar="DIR", required=True, help=WORKDIR)
    option("--split", help="e.g. train; default: the one of the training")
    option("--step", default="latest", help=STEP)
    option("--json", action="store_true", help=JSON)

    option = add(
        "export",
        _export,
        "write the network of a run as StableHLO, ONNX or PyTorch weights",
        "Write the network of a checkpoint to a file, for any batch size:\n"
        "  .stablehlo    runs wherever jax and flatbuffers are, without this package\n"
        "  .onnx         runs in onnxruntime and others (pip install 'resnet-jax[onnx]')\n"
        "  .safetensors  weights for PyTorch, named as in torchvision or timm\n"
        "The first two take normalised float32 images [batch, height, width, channels], or, with\n"
        "--raw, uint8 ones, and put out logits.",
    )
    option("--workdir", metavar="DIR", required=True, help=WORKDIR)
    option("--out", metavar="FILE", required=True, help="its suffix says what it is")
    option("--step", default="latest", help=STEP)
    option("--raw", action="store_true", help="take uint8 images and normalise them")

    option = add(
        "summary",
        _summary,
        "what each part of a network puts out, costs and sees",
        "Output shape, parameters, multiply-adds and receptive field by stage; nothing is trained.\n"
        "The data set need not be there if --config.model.num_classes and --config.data.image_size\n"
        "are given.",
    )
    option("--config", metavar="FILE", required=True, help=CONFIG)
    option("--json", action="store_true", help=JSON)

    option = add(
        "sweep",
        _sweep,
        "train the runs of a study, or go on with it",
        "Train all runs that sweep() of a config file states. The same command again goes on; runs that\n"
        "have ended are left alone. --config.FIELD=VALUE changes the base config.",
        SLURM_OPTIONS,
    )
    option("--config", metavar="FILE[:FORM]", required=True, help="e.g. configs/sweeps/depth.py")
    option("--workdir", metavar="DIR", required=True, help="the sweep directory")
    option(
        "--dry_run", action="store_true", help="list the runs, their cost and time; train nothing"
    )
    option("--executor", default="local", help="local (processes here) or slurm")
    option("--max_parallel", type=int, metavar="N", help="processes or Slurm jobs at once")
    option("--vectorize", default="auto", help=VECTORIZE)
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

    option = add(
        "report",
        _report,
        "write a page of tables, plots and comparisons from run directories",
        "Read run directories, sweep directories and folders of them, and write one HTML page that\n"
        "needs no network; beside it Markdown, PNG figures and CSV files. No JAX is needed, and it\n"
        "works while runs go on: the same command again renews the page.",
    )
    option("directories", metavar="DIR", nargs="+", help="a run, a sweep, or a folder of them")
    option("--out", metavar="PAGE", help="an .html file; default: DIR/report/report.html")
    option("--latex", action="store_true", help="also write the table of results as LaTeX")

    option = add(
        "prepare",
        _prepare,
        "prepare a TFDS data set on disk",
        "Download and prepare a TFDS data set as ArrayRecord files, by TFDS itself.\n"
        "fashion_mnist needs no TensorFlow here: give its four .gz files by --manual_dir.",
    )
    option("name", help="TFDS name, e.g. cifar10 or imagenette/320px-v2")
    option("--data_dir", help="where to; default: $TFDS_DATA_DIR or TFDS's own")
    option("--manual_dir", help="directory of files that you downloaded")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    try:
        arguments.slurm = _dotted("--slurm.", rest) if arguments.command == "sweep" else {}
        overrides = _dotted("--config.", rest)
        if rest:
            raise UserError("argument", rest[0], "is unknown", "see --help")
        return arguments.run(arguments, overrides)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


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
    config = override(load_config(arguments.config), overrides)
    keep_compiled_programs(config)
    from resnet_jax.training.experiment import make_experiment
    from resnet_jax.training.loop import train
    from resnet_jax.training.progress import Reporter, result_rows, table
    from resnet_jax.training.run_directory import RunDirectory

    run = RunDirectory(arguments.workdir)
    experiment = make_experiment(config, starts=not run.has_checkpoint())
    run.create(config.to_dict())
    run.write_data(experiment.facts)
    reporter = Reporter()
    exit_code = train([experiment], [run], reporter)
    status = run.read_status()
    reporter.console.print(table(f"Result of {arguments.workdir}", result_rows(status)))
    if "error" in status:
        print(f"error: {status['error']}", file=sys.stderr)
    return exit_code


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
    if arguments.dry_run:
        dry_run(study, directory)
        return 0
    if arguments.search is None and (arguments.trials, arguments.storage) != (None, None):
        raise UserError("--trials, --storage", None, "are for --search=optuna")
    if arguments.search is not None:
        from resnet_jax.sweeps.search import search

        engine, trials, storage = arguments.search, arguments.trials, arguments.storage
        return search(study, directory, options, engine, trials, storage)
    return sweep(study, directory, options)


def _evaluate(arguments: argparse.Namespace, overrides: dict[str, str]) -> int:
    from resnet_jax.training.run_directory import RunDirectory

    run = RunDirectory(arguments.workdir)
    config = run.load_config(overrides)
    keep_compiled_programs(config)
    from resnet_jax.training.evaluate import evaluate_run
    from resnet_jax.training.progress import Reporter, table

    result = evaluate_run(run, config, arguments.step, arguments.split)
    if arguments.json:
        print(json.dumps(result))
    else:
        shown = {name: _format(value) for name, value in result.items()}
        Reporter().console.print(table(f"Evaluation of {arguments.workdir}", shown))
    return 0


def _export(arguments: argparse.Namespace, overrides: dict[str, str]) -> int:
    from resnet_jax.training.run_directory import RunDirectory

    run = RunDirectory(arguments.workdir)
    config = run.load_config(overrides)
    keep_compiled_programs(config)
    from resnet_jax.training.export import export_run

    export_run(run, config, arguments.out, arguments.step, arguments.raw)
    print(arguments.out)
    return 0


def _summary(arguments: argparse.Namespace, overrides: dict[str, str]) -> int:
    config = override(load_config(arguments.config), overrides)
    from resnet_jax.training.progress import Reporter, parts_table
    from resnet_jax.training.summary import summarize_config

    summary = summarize_config(config)
    if arguments.json:
        print(json.dumps(summary))
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
        print(path)
    return 0


def _prepare(arguments: argparse.Namespace, overrides: dict[str, str]) -> int:
    if overrides:
        raise UserError("argument", f"--config.{next(iter(overrides))}", "is unknown to prepare")
    from resnet_jax.data.prepare import prepare

    print(prepare(arguments.name, arguments.data_dir, arguments.manual_dir))
    return 0
