"""The command `export`."""

import argparse
import sys

from resnet_jax.cli.options import STEP, add_workdir
from resnet_jax.cli.parser import CommandParser
from resnet_jax.errors import printable
from resnet_jax.paths import local_path
from resnet_jax.training.compilation_cache import keep_compiled_programs

DESCRIPTION = """\
Write the network of a checkpoint to a file, for any batch size:
  .stablehlo    runs wherever jax and flatbuffers are, without this package
  .onnx         runs in onnxruntime and others (pip install 'resnet-jax[onnx]')
  .safetensors  weights for PyTorch, named as in torchvision or timm
The first two take normalised float32 images [batch, height, width, channels], or, with
--raw, uint8 ones, and put out logits."""


def add_options(parser: CommandParser) -> None:
    """Add the options of `export`."""
    option = parser.add_argument
    add_workdir(option)
    out = local_path("--out")
    option("--out", metavar="FILE", type=out, required=True, help="its suffix says what it is")
    option("--step", default="latest", help=f"{STEP}; or init")
    option("--raw", action="store_true", help="take uint8 images and normalise them")


def run(arguments: argparse.Namespace, overrides: dict[str, str]) -> int:
    """Write the file and print its name; returns the exit code."""
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
