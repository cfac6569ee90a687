"""The command `report`."""

import argparse

from resnet_jax.cli.options import refuse_overrides
from resnet_jax.cli.parser import CommandParser
from resnet_jax.errors import printable
from resnet_jax.paths import local_path

DESCRIPTION = """\
Read run directories, sweep directories and folders of them, and write one HTML page that
needs no network, and next to it Markdown, PNG figures and CSV files. No JAX is needed, and
it works during training: the same command again renews the page."""


def add_options(parser: CommandParser) -> None:
    """Add the options of `report`."""
    option = parser.add_argument
    runs = "a run, a sweep, or a folder of them"
    option("directories", metavar="DIR", type=local_path("DIR"), nargs="+", help=runs)
    page = "an .html file; default: DIR/report/report.html"
    option("--out", metavar="PAGE", type=local_path("--out"), help=page)
    option("--latex", action="store_true", help="also write the table of results as LaTeX")


def run(arguments: argparse.Namespace, overrides: dict[str, str]) -> int:
    """Write the page and print the names of all files; returns the exit code."""
    refuse_overrides(overrides, "report")
    from resnet_jax.report.write import write_report

    for path in write_report(arguments.directories, arguments.out, arguments.latex):
        print(printable(path))
    return 0
