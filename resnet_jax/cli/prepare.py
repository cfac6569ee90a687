"""The command `prepare`."""

import argparse

from resnet_jax.cli.options import refuse_overrides
from resnet_jax.cli.parser import CommandParser
from resnet_jax.errors import printable
from resnet_jax.paths import local_path

DESCRIPTION = """\
Download and prepare a TFDS data set as ArrayRecord files, by TFDS itself.
fashion_mnist needs no TensorFlow here: give its four .gz files by --manual_dir."""


def add_options(parser: CommandParser) -> None:
    """Add the options of `prepare`."""
    option = parser.add_argument
    option("name", help="TFDS name, e.g. cifar10 or imagenette/320px-v2")
    where = "where to; default: $TFDS_DATA_DIR or TFDS's own"
    option("--data_dir", type=local_path("--data_dir"), help=where)
    downloaded = "directory of files that you downloaded"
    option("--manual_dir", type=local_path("--manual_dir"), help=downloaded)


def run(arguments: argparse.Namespace, overrides: dict[str, str]) -> int:
    """Prepare the data set and print its directory; returns the exit code."""
    refuse_overrides(overrides, "prepare")
    from resnet_jax.data.prepare import prepare

    print(printable(prepare(arguments.name, arguments.data_dir, arguments.manual_dir)))
    return 0
