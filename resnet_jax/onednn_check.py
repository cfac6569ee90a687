"""Whether the oneDNN inside jaxlib computes right numbers here. Imports neither JAX nor NumPy.

It is called through an internal interface of XLA, where a mistake ends the process. So it is tried once in
a separate process, `resnet_jax/onednn_trial.py`, and the answer is kept in the user's cache.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from resnet_jax.files import read_file, write_file
from resnet_jax.private_directory import private_directory

SECONDS = 120
LARGEST_ANSWER = 10_000
TRIAL = ("-P", "-m", "resnet_jax.onednn_trial")
# The answer depends on these files, next to jaxlib and the processor.
CODE = ("onednn_trial.py", "models/onednn.py", "models/passes.py", "models/loop_safe.py")


@functools.cache
def onednn_fault(dtype: str) -> str | None:
    """Why oneDNN is not used for convolutions in a compute type; None: it computes right numbers.

    The first call with a jaxlib and processor takes some seconds. The answer is a file in
    `$RESNET_JAX_CACHE`, by default `~/.cache/resnet_jax`; remove it to try again.

    Args:
        dtype: `float32` or `bfloat16`.
    """
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return "jaxlib has it on Linux for x86-64 only"
    if dtype not in ("float32", "bfloat16"):
        return f"it does not compute in {dtype}"
    if not sys.executable:
        return "it cannot be tried without the path of Python"
    directory = None
    with contextlib.suppress(OSError, RuntimeError):
        cache = os.environ.get("RESNET_JAX_CACHE") or "~/.cache/resnet_jax"
        directory = private_directory(Path(cache).expanduser() / "onednn")
    return kept_answer(directory, [sys.executable, *TRIAL, dtype])


def kept_answer(
    directory: Path | None, command: Sequence[str], seconds: float = SECONDS
) -> str | None:
    """The answer of a trial, from a file of `directory` or else from the trial itself.

    Args:
        directory: of answers; None: none is kept.
        command: the trial; it exits with 0 if all is right, else it prints what is not.
        seconds: that it may take.

    Returns:
        What is wrong, in words; None: nothing.
    """
    facts = _facts(command)
    name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    path = directory / f"{name}.json" if directory else None
    if path is not None:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return json.loads(read_file(path, LARGEST_ANSWER))["fault"]
    fault = _tried(command, seconds)
    if path is not None:
        with contextlib.suppress(OSError):
            write_file(path, json.dumps(facts | {"fault": fault}, indent=2) + "\n")
    return fault


def _extension_version() -> str | None:
    """The version of the extension in `native/`; None: it is not installed."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version("resnet-jax-native")
    return None


def _facts(command: Sequence[str]) -> dict[str, str | None]:
    code = hashlib.sha256()
    for name in CODE:
        code.update((Path(__file__).parent / name).read_bytes())
    return {
        "trial": " ".join(command[1:]),
        "extension": _extension_version(),
        "jaxlib": importlib.metadata.version("jaxlib"),
        "processor": _processor(),
        "code": code.hexdigest()[:16],
    }


def _processor() -> str:
    """The model and the instructions of the processor, which choose oneDNN's code."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        facts = dict(line.split("\t", 1) for line in lines if "\t" in line)
        kind = [facts.get(name, "") for name in ("vendor_id", "cpu family", "model", "flags")]
        return hashlib.sha256("\n".join(kind).encode()).hexdigest()[:16]
    return platform.processor()


def _tried(command: Sequence[str], seconds: float) -> str | None:
    settings = {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_COMPILATION_CACHE": "false",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    try:
        ended = subprocess.run(
            command,
            env=os.environ | settings,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return f"its trial took more than {seconds:g} seconds"
    except OSError as error:
        return f"its trial could not be started: {error}"
    if ended.returncode == 0:
        return None
    if ended.returncode < 0:
        with contextlib.suppress(ValueError):
            return f"its trial ended by {signal.Signals(-ended.returncode).name}"
    said = (ended.stdout or ended.stderr).strip().splitlines() or ["without a word"]
    return f"its trial ended with code {ended.returncode}: {said[-1][:200]}"
