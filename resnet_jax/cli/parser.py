"""A parser of commands, whose modules are imported when they are chosen."""

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

AddOptions = Callable[["CommandParser"], None]
# `ArgumentParser.add_argument`.
Add = Callable[..., argparse.Action]


class CommandParser(argparse.ArgumentParser):
    """A parser that gets its options when it first parses, so that the other commands cost nothing.

    Args:
        add_options: adds the options; None: they are added from outside.
        **options: of `argparse.ArgumentParser`.
    """

    def __init__(self, add_options: AddOptions | None = None, **options: Any) -> None:
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(formatter_class=formatter, allow_abbrev=False, **options)
        self._add_options = add_options

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As of `argparse.ArgumentParser`."""
        add_options, self._add_options = self._add_options, None
        if add_options is not None:
            add_options(self)
        return super().parse_known_args(args, namespace)

    def add_commands(
        self,
        dest: str,
        metavar: str,
        help_lines: Mapping[str, str],
        add_options: Callable[[str, "CommandParser"], None],
    ) -> None:
        """Add a sub-command for each name.

        Args:
            dest: attribute of the parsed arguments that gets the chosen name.
            metavar: stands for the names in `--help`.
            help_lines: name → its line in `--help`.
            add_options: called as `add_options(name, parser)` for the chosen one.
        """
        commands = self.add_subparsers(dest=dest, required=True, metavar=metavar)
        for name, line in help_lines.items():
            commands.add_parser(name, help=line, add_options=partial(add_options, name))
