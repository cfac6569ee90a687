"""Run `resnet_jax` from a checkout: python launch.py COMMAND ...

This file has to parse under Python 3.6, so that it can say which one is needed.
"""

import os
import signal
import sys
from importlib.util import find_spec


def missing(first):
    """The packages of pyproject.toml that this Python lacks."""
    import importlib.metadata
    import re
    import tomllib

    with open(
        os.path.join(os.path.dirname(os.path.abspath(__file__)), "pyproject.toml"), "rb"
    ) as file:
        needed = tomllib.load(file)["project"]["dependencies"]
    lacking = []
    for requirement in needed:
        name = re.split(r"[^\w.-]", requirement)[0]
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            lacking.append(name)
    return lacking or [first]


def stop(problem):
    """End with one line that says which Python to use."""
    root = os.path.dirname(os.path.abspath(__file__))
    python = os.path.relpath(os.path.join(root, ".venv", "bin", "python"))
    fix = "`make train` made .venv, so use"
    if not os.path.exists(python):
        fix = "run `make train` once, which makes .venv, then"
    command = " ".join([python, *sys.argv[:2]])
    sys.stderr.write(f"error: {problem}; {fix} {command} ...\n")
    sys.exit(2)


if __name__ == "__main__":
    if sys.version_info < (3, 11):  # noqa: UP036
        stop(f"this is Python {sys.version.split()[0]}, and 3.11 or newer is needed")
    # Ctrl-C ends what cannot save without a traceback.
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        # Commands import what they need late, and this is to be said first.
        if find_spec("jax") is None:
            raise ModuleNotFoundError(name="jax")
        from resnet_jax.__main__ import main

        sys.exit(main())
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "resnet_jax":
            raise
        names = missing(error.name)
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        stop(f"{sys.executable} lacks {', '.join(names[:3])}{more}")
