"""XLA's CPU compiler without YNNPACK, which is wrong in silence. Imports neither JAX nor NumPy.

From jaxlib 0.10 on, XLA's CPU backend gives sums, maxima and matrix products to YNNPACK. Some programs
then return wrong numbers, lose NaN or end the process; `docs/performance.md` has the list.
"""

import functools
import importlib.util
import mmap
import os
import sys
import warnings
from pathlib import Path

# Empty: nothing is given to YNNPACK. Also the name of the option for `jax.jit(…, compiler_options=…)`.
OPTION = "xla_cpu_experimental_ynn_fusion_type"
FLAG = f"--{OPTION}="


def turn_off_ynnpack() -> None:
    """Compile without YNNPACK in this process and in those that it starts.

    XLA reads `XLA_FLAGS` when JAX is first used, so call this before; to import JAX is not to use it.
    Where `XLA_FLAGS` chooses this flag already, or this jaxlib does not have it, nothing changes.
    """
    flags = _flags()
    if OPTION not in flags and has_ynnpack():
        os.environ["XLA_FLAGS"] = f"{flags} {FLAG}".strip()


def warn_of_ynnpack() -> None:
    """Warn, once in a process, where JAX runs on a CPU with YNNPACK. Starts no backend."""
    if OPTION not in _flags() and has_ynnpack() and _may_run_on_cpu():
        _warn_once()


@functools.cache
def has_ynnpack() -> bool:
    """Whether the installed jaxlib has the flag; one that it does not have would end the process.

    The library itself is asked, because its versions to come are not known.
    """
    spec = importlib.util.find_spec("jaxlib")
    if spec is None or spec.origin is None:
        return False
    for path in Path(spec.origin).parent.glob("*jax_common*"):
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            if text.find(OPTION.encode()) >= 0:
                return True
    return False


def _flags() -> str:
    """XLA's flags: `XLA_FLAGS`, or what the file has that it names."""
    flags = os.environ.get("XLA_FLAGS", "").strip()
    if not flags or flags.startswith("-"):
        return flags
    path = Path(flags)
    return " ".join(path.read_text(encoding="utf-8").split()) if path.is_file() else flags


def _may_run_on_cpu() -> bool:
    """False where the platforms that JAX may use are chosen without the CPU."""
    config = getattr(sys.modules.get("jax"), "config", None)
    platforms = getattr(config, "jax_platforms", None) or os.environ.get("JAX_PLATFORMS", "")
    return not platforms or "cpu" in platforms.split(",")


@functools.cache
def _warn_once() -> None:
    warnings.warn(
        "on a CPU this jaxlib computes some sums, products and maxima wrongly, in silence: "
        f'set XLA_FLAGS="{FLAG}" before JAX starts (resnet_jax: docs/performance.md)',
        RuntimeWarning,
        stacklevel=4,
    )
