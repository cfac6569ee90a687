"""What is printed: any text, as it is, on streams of any encoding."""

import io
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def escape_unencodable() -> None:
    """Make stdout and stderr print what their encoding lacks as an escape, so that no print raises.

    Under `LC_ALL=C` or `PYTHONIOENCODING=ascii`, `±` is printed as `\\xb1`.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def make_console(**options: Any) -> "Console":
    """A console of Rich that prints text as it is: no markup, no emoji codes.

    Args:
        **options: of `rich.console.Console`. By default, lines of a pipe are not wrapped.
    """
    from rich.console import Console

    defaults = {"soft_wrap": not sys.stdout.isatty()}
    return Console(markup=False, emoji=False, highlight=False, **defaults | options)
