"""The command line. Each command imports what it needs only when it runs."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from resnet_jax import __version__
from resnet_jax.config import describe_fields
from resnet_jax.config_file import load_config, override
from resnet_jax.errors import UserError

if TYPE_CHECKING:
    from ml_collections import ConfigDict

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


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="resnet-jax",
        description=DESCRIPTION,
        epilog=EXIT_CODES,
        formatter_class=raw,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    train = commands.add_parser(
        "train",
        help="train, or go on with a run that was stopped",
        formatter_class=raw,
        description="Train the experiment of a config file. The same command again goes on with a "
        "run that was stopped.",
        epilog=f"{FIELDS_TITLE}\n{describe_fields()}",
        allow_abbrev=False,
    )
    train.add_argument("--config", metavar="FILE", required=True, help="e.g. configs/cifar10.py")
    train.add_argument("--workdir", metavar="DIR", required=True, help="the run directory")
    train.set_defaults(run=_train)

    evaluate = commands.add_parser(
        "evaluate",
        help="evaluate a checkpoint of a run on a whole split",
        formatter_class=raw,
        description="Evaluate a checkpoint of a run: every example of a split, once. "
        "--config.FIELD=VALUE may change where it runs (data.data_dir, parallel.num_devices, …).",
        allow_abbrev=False,
    )
    evaluate.add_argument("--workdir", metavar="DIR", required=True, help="the run directory")
    evaluate.add_argument("--split", help="e.g. train; default: the one of the training")
    evaluate.add_argument(
        "--step", default="latest", help="latest, best, or the number of a checkpoint"
    )
    evaluate.add_argument("--json", action="store_true", help="print one JSON object")
    evaluate.set_defaults(run=_evaluate)

    export = commands.add_parser(
        "export",
        help="write the network of a run as StableHLO, ONNX or PyTorch weights",
        formatter_class=raw,
        description="Write the network of a checkpoint to a file, for any batch size:\n"
        "  .stablehlo    runs wherever jax and flatbuffers are, without this package\n"
        "  .onnx         runs in onnxruntime and others (pip install 'resnet-jax[onnx]')\n"
        "  .safetensors  weights for PyTorch, named as in torchvision or timm\n"
        "The first two take normalised float32 images [batch, height, width, channels], or, with\n"
        "--raw, uint8 ones, and put out logits.",
        allow_abbrev=False,
    )
    export.add_argument("--workdir", metavar="DIR", required=True, help="the run directory")
    export.add_argument("--out", metavar="FILE", required=True, help="its suffix says what it is")
    export.add_argument(
        "--step", default="latest", help="latest, best, or the number of a checkpoint"
    )
    export.add_argument("--raw", action="store_true", help="take uint8 images and normalise them")
    export.set_defaults(run=_export)

    summary = commands.add_parser(
        "summary",
        help="what each part of a network puts out, costs and sees",
        formatter_class=raw,
        description="Output shape, parameters, multiply-adds and receptive field by stage; nothing "
        "is trained. The data set need not be there if --config.model.num_classes and "
        "--config.data.image_size are given.",
        allow_abbrev=False,
    )
    summary.add_argument("--config", metavar="FILE", required=True, help="e.g. configs/cifar10.py")
    summary.add_argument("--json", action="store_true", help="print one JSON object")
    summary.set_defaults(run=_summary)

    prepare = commands.add_parser(
        "prepare",
        help="prepare a TFDS data set on disk",
        formatter_class=raw,
        description="Download and prepare a TFDS data set as ArrayRecord files, by TFDS itself. "
        "fashion_mnist needs no TensorFlow here: give its four .gz files by --manual_dir.",
        allow_abbrev=False,
    )
    prepare.add_argument("name", help="TFDS name, e.g. cifar10 or imagenette/320px-v2")
    prepare.add_argument("--data_dir", help="where to; default: $TFDS_DATA_DIR or TFDS's own")
    prepare.add_argument("--manual_dir", help="directory of files that you downloaded")
    prepare.set_defaults(run=_prepare)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    try:
        return arguments.run(arguments, _overrides(rest))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _overrides(rest: Sequence[str]) -> dict[str, str]:
    """`--config.FIELD=VALUE` or `--config.FIELD VALUE` arguments as {field: text}."""
    overrides, left = {}, list(rest)
    while left:
        argument = left.pop(0)
        if not argument.startswith("--config."):
            raise UserError("argument", argument, "is unknown", "see --help")
        name, equals, value = argument.removeprefix("--config.").partition("=")
        if not equals:
            if not left:
                raise UserError(argument, None, "has no value", f"write {argument}=VALUE")
            value = left.pop(0)
        overrides[name] = value
    return overrides


def _set_up_jax(config: "ConfigDict") -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import jax

    from resnet_jax.data.cache import cache_directory

    # A second start finds its programs compiled.
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        directory = cache_directory(config.data.cache_dir) / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(directory))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _train(arguments: argparse.Namespace, overrides: dict[str, str]) -> int:
    config = override(load_config(arguments.config), overrides)
    _set_up_jax(config)
    from resnet_jax.training.experiment import make_experiment
    from resnet_jax.training.loop import train
    from resnet_jax.training.progress import Reporter, result_rows, table
    from resnet_jax.training.run_directory import RunDirectory

    run = RunDirectory(arguments.workdir)
    experiment = make_experiment(config, starts=not run.has_checkpoint())
    run.create(config.to_dict())
    run.write_data(experiment.facts)
    reporter = Reporter()
    exit_code = train(experiment, run, reporter)
    status = run.read_status()
    reporter.console.print(table(f"Result of {arguments.workdir}", result_rows(status)))
    if "error" in status:
        print(f"error: {status['error']}", file=sys.stderr)
    return exit_code


def _evaluate(arguments: argparse.Namespace, overrides: dict[str, str]) -> int:
    from resnet_jax.training.run_directory import RunDirectory

    run = RunDirectory(arguments.workdir)
    config = run.load_config(overrides)
    _set_up_jax(config)
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
    _set_up_jax(config)
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


def _prepare(arguments: argparse.Namespace, overrides: dict[str, str]) -> int:
    if overrides:
        raise UserError("argument", f"--config.{next(iter(overrides))}", "is unknown to prepare")
    from resnet_jax.data.prepare import prepare

    print(prepare(arguments.name, arguments.data_dir, arguments.manual_dir))
    return 0
