"""The commands of the command line and their options, as `--help` tells them."""

import argparse
from collections.abc import Callable

from resnet_jax import __version__
from resnet_jax.analysis_arguments import add_instruments
from resnet_jax.config import describe_fields
from resnet_jax.paths import local_path

DESCRIPTION = "Train and study residual networks in JAX."
EXIT_CODES = """exit codes:
  0  done
  1  a bug, or the machine failed
  2  the input is wrong; one line says what and how to mend it
  3  the training diverged, or the outputs of the network are not finite
  128 + N  stopped by signal N, e.g. 130 by Ctrl-C, 143 by SIGTERM; training has saved, and the
     same command resumes
  141  the reader of the result left early, e.g. `| head`"""
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
Add = Callable[..., argparse.Action]


def make_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = argparse.ArgumentParser(
        prog="resnet-jax",
        description=DESCRIPTION,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add_command(
        name: str, help_line: str, description: str, epilog: str = ""
    ) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=help_line,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def add(*texts: str) -> Add:
        return add_command(*texts).add_argument

    option = add(
        "train",
        "train, or go on with a run that was stopped",
        "Train the experiment of a config file. The same command again goes on with a run that\n"
        "was stopped.",
        f"{FIELDS_TITLE}\n{describe_fields()}",
    )
    option("--config", metavar="FILE", required=True, help=CONFIG)
    _add_workdir(option, WORKDIR)
    option("--profile", metavar="START:STOP", help="trace these steps into DIR/profile")
    _add_processes(option)

    option = add(
        "evaluate",
        "evaluate a checkpoint of a run on a whole split",
        "Evaluate a checkpoint of a run: every example of a split, once. --config.FIELD=VALUE may\n"
        "change where and how (data.data_dir, parallel.num_devices, evaluate.scales, …).",
    )
    _add_workdir(option, WORKDIR)
    option("--split", help="e.g. train; default: the one of the training")
    option("--step", default="latest", help=STEP)
    option("--json", action="store_true", help=JSON)
    _add_processes(option)

    option = add(
        "export",
        "write the network of a run as StableHLO, ONNX or PyTorch weights",
        "Write the network of a checkpoint to a file, for any batch size:\n"
        "  .stablehlo    runs wherever jax and flatbuffers are, without this package\n"
        "  .onnx         runs in onnxruntime and others (pip install 'resnet-jax[onnx]')\n"
        "  .safetensors  weights for PyTorch, named as in torchvision or timm\n"
        "The first two take normalised float32 images [batch, height, width, channels], or, with\n"
        "--raw, uint8 ones, and put out logits.",
    )
    _add_workdir(option, WORKDIR)
    out = local_path("--out")
    option("--out", metavar="FILE", type=out, required=True, help="its suffix says what it is")
    option("--step", default="latest", help=f"{STEP}; or init")
    option("--raw", action="store_true", help="take uint8 images and normalise them")

    option = add(
        "summary",
        "what each part of a network puts out, costs and sees",
        "Output shape, parameters, multiply-adds and receptive field by stage; nothing is trained.\n"
        "The data set need not be there if --config.model.num_classes and --config.data.image_size\n"
        "are given.",
    )
    option("--config", metavar="FILE", required=True, help=CONFIG)
    option("--json", action="store_true", help=JSON)

    option = add(
        "sweep",
        "train the runs of a study, or go on with it",
        "Train all runs that sweep() of a config file states. The same command again goes on; runs that\n"
        "have ended are left alone. --config.FIELD=VALUE changes the base config.",
        SLURM_OPTIONS,
    )
    option("--config", metavar="FILE[:FORM]", required=True, help="e.g. configs/sweeps/depth.py")
    _add_workdir(option, "the sweep directory")
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

    option = add(
        "report",
        "write a page of tables, plots and comparisons from run directories",
        "Read run directories, sweep directories and folders of them, and write one HTML page that\n"
        "needs no network; beside it Markdown, PNG figures and CSV files. No JAX is needed, and it\n"
        "works while runs go on: the same command again renews the page.",
    )
    runs = "a run, a sweep, or a folder of them"
    option("directories", metavar="DIR", type=local_path("DIR"), nargs="+", help=runs)
    option("--out", metavar="PAGE", type=out, help="an .html file; default: DIR/report/report.html")
    option("--latex", action="store_true", help="also write the table of results as LaTeX")

    analyze = add_command(
        "analyze",
        "look into trained networks: why residual nets work",
        "Instruments that take a trained network apart. Each writes its arrays (NAME.npz), what they\n"
        "are (NAME.json) and its plots (NAME_*.png). The same command goes on where it was stopped.\n"
        "--config.FIELD=VALUE may change where a run is (data.data_dir, …).",
    )
    add_instruments(analyze)

    option = add(
        "prepare",
        "prepare a TFDS data set on disk",
        "Download and prepare a TFDS data set as ArrayRecord files, by TFDS itself.\n"
        "fashion_mnist needs no TensorFlow here: give its four .gz files by --manual_dir.",
    )
    option("name", help="TFDS name, e.g. cifar10 or imagenette/320px-v2")
    where = "where to; default: $TFDS_DATA_DIR or TFDS's own"
    option("--data_dir", type=local_path("--data_dir"), help=where)
    downloaded = "directory of files that you downloaded"
    option("--manual_dir", type=local_path("--manual_dir"), help=downloaded)
    return parser


def _add_workdir(option: Add, what: str) -> None:
    option("--workdir", metavar="DIR", type=local_path("--workdir"), required=True, help=what)


def _add_processes(option: Add) -> None:
    option("--coordinator", metavar="HOST:PORT", help="of process 0, where no launcher says it")
    option("--num_processes", type=int, metavar="N", help="of this command; 1: it runs alone")
    option("--process_id", type=int, metavar="I", help="which of them this is, from 0")
