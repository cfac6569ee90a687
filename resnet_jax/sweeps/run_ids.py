"""The id of a run of a study, which is also the name of its directory."""

import hashlib
import os
import urllib.parse
from collections import Counter
from collections.abc import Mapping
from typing import Any

from resnet_jax.config import FIELDS

LONGEST_ID = 120
# Bytes that a name can have.
LONGEST_NAME = 255


def name_run(overrides: Mapping[str, Any]) -> str:
    """The id of a run with these overrides: `depth=20,shortcut=A,seed=0`.

    Letters, digits and `_.-+=,%~` alone, so that no shell, glob, format or file system reads anything
    into it. Different values of a field have different ids.
    """
    leaves = Counter(field.rpartition(".")[2] for field in FIELDS)
    parts = []
    for field, value in overrides.items():
        leaf = field.rpartition(".")[2]
        name = leaf if leaves[leaf] == 1 else field
        parts.append(f"{name}={_of_value(value, FIELDS[field].kind)}")
    full = ",".join(parts) or "base"
    if len(full) <= LONGEST_ID:
        return full
    return f"{full[: LONGEST_ID - 17]}~{hashlib.sha256(full.encode()).hexdigest()[:16]}"


def is_run_id(value: Any) -> bool:
    """Whether a value is a name that a directory of a run can have.

    Names that lead elsewhere, are hidden, or read like an option are none.
    """
    if not isinstance(value, str) or not value or value[0] in ".-" or set(value) & {"/", "\0"}:
        return False
    try:
        return len(os.fsencode(value)) <= LONGEST_NAME
    except UnicodeEncodeError:
        return False


def _of_value(value: Any, kind: str) -> str:
    """`%` alone is an empty text in a list, so that it differs from an empty list."""
    if isinstance(value, list | tuple):
        return "+".join(_of_value(part, kind) or "%" for part in value)
    text = str(value).replace("e+", "e") if isinstance(value, float) else str(value)
    # A lone surrogate has no bytes but these. `~` is for ids that are cut.
    name = urllib.parse.quote(text, safe=" ", errors="surrogatepass").replace("~", "%7E")
    if kind.startswith("duration"):
        # `90 epochs` is `90_epochs`; no duration has an underscore of its own.
        return name.replace("_", "%5F").replace(" ", "_")
    return name.replace(" ", "%20")
