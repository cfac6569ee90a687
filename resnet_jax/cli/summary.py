"""The command `summary`."""

import argparse

from resnet_jax.cli.options import CONFIG, JSON
from resnet_jax.cli.parser import CommandParser
from resnet_jax.config import load_config, override
from resnet_jax.strict_json import to_json

DESCRIPTION = """\
Output shape, parameters, multiply-adds and receptive field by stage; nothing is trained.
The data set need not be there if --config.model.num_classes and --config.data.image_size
are given."""


def add_options(parser: CommandParser) -> None:
    """Add the options of `summary`."""
    option = parser.add_argument
    option("--config", metavar="FILE", required=True, help=CONFIG)
    option("--json", action="store_true", help=JSON)


def run(arguments: argparse.Namespace, overrides: dict[str, str]) -> int:
    """Print the parts of a network; returns the exit code."""
    config = override(load_config(arguments.config), overrides)
    from resnet_jax.training.progress import Reporter, parts_table
    from resnet_jax.training.summary import summarize_config

    summary = summarize_config(config)
    if arguments.json:
        print(to_json(summary))
    else:
        Reporter().console.print(parts_table(arguments.config, summary))
    return 0
