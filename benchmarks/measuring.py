"""What the benchmarks say of their numbers: the machine, and the spread."""

import os
import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median, smallest and largest to four digits, and how many they are."""
    numbers = {"median": np.median(values), "min": min(values), "max": max(values)}
    return {name: float(f"{number:.4g}") for name, number in numbers.items()} | {"n": len(values)}


def markdown(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table; what stands in a cell has no `|`."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(str(cell) for cell in line) + " |\n" for line in lines)


def machine() -> dict[str, Any]:
    """Processor, cores, device, and the versions that decide on speed; None: not known."""
    info = Path("/proc/cpuinfo")
    cpu = re.search("model name\\s*: (.*)", info.read_text()) if info.exists() else None
    versions = {name: _version(name) for name in ("jax", "flax", "torch")}
    device = {"backend": jax.default_backend(), "device": jax.devices()[0].device_kind}
    return {"cpu": cpu and cpu[1], "cores": os.cpu_count(), **device, "versions": versions}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
