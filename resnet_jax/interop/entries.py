"""State dicts inside a checkpoint: finding all of them, and choosing one."""

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from resnet_jax.interop.errors import WeightsError

# An average counts as one by a word of its name: `state_dict_ema`, `model_ema`, `params_ema`, `swa`.
_AVERAGE = re.compile(
    r"(?:^|[._-])(?:ema|swa|avg|average[ds]?|averaging|polyak|shadow)(?:$|[._-]|\d)", re.I
)
# Which of several is meant, in the order in which timm and others look for them.
_USUAL = (
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "params",
)
TOP = "."
# In one file. A dict may hold another many times, or itself.
MOST_DICTS, MOST_LEVELS = 100_000, 32


class Entry(NamedTuple):
    """One state dict of a checkpoint.

    Attributes:
        name: its keys from the outside in, joined by dots; `TOP` is the checkpoint itself.
        weights: name → array.
    """

    name: str
    weights: Mapping[Any, Any]


def choose_entry(content: Mapping[Any, Any], wanted: str | None) -> tuple[Entry, tuple[str, ...]]:
    """The state dict to load, and the names of the others.

    Averaged weights come first, as in timm, then the usual names (`state_dict`, `model`, …).

    Args:
        content: of the checkpoint.
        wanted: name of the entry; None: by the rule above.

    Raises:
        WeightsError: there is no such entry, or the rule leaves several; lists those that are there.
    """
    entries = _state_dicts(content) or [Entry(TOP, content)]
    names = [entry.name for entry in entries]
    if wanted is None:
        taken = _by_rule(entries)
    elif wanted in names:
        taken = entries[names.index(wanted)]
    else:
        raise WeightsError(f"entry {wanted!r} is not there; there are: {', '.join(names)}")
    return taken, tuple(name for name in names if name != taken.name)


def _by_rule(entries: list[Entry]) -> Entry:
    averages = [entry for entry in entries if _AVERAGE.search(entry.name)]
    pool = averages or entries
    for usual in _USUAL:
        named = [entry for entry in pool if entry.name.split(".")[0] == usual]
        if named:
            pool = named
            break
    if len(pool) > 1:
        names = ", ".join(entry.name for entry in pool)
        raise WeightsError(f"has several state dicts, choose one as the entry: {names}")
    return pool[0]


def _state_dicts(content: Mapping[Any, Any]) -> list[Entry]:
    """All state dicts, from the outside in.

    Raises:
        WeightsError: too many dicts, or too deep ones; one may even hold itself.
    """
    try:
        dicts = list(itertools.islice(_dicts(content, "", MOST_LEVELS), MOST_DICTS + 1))
    except RecursionError:
        dicts = []
    if not 0 < len(dicts) <= MOST_DICTS:
        raise WeightsError(f"has more than {MOST_DICTS:,} dicts, or more than {MOST_LEVELS} levels")
    return [entry for name, part in dicts if _is_state_dict(part) for entry in _parts(part, name)]


def _dicts(
    content: Mapping[Any, Any], name: str, levels: int
) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """All dicts by name, from the outside in."""
    if not levels:
        raise RecursionError
    yield name, content
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _dicts(value, f"{name}.{key}" if name else str(key), levels - 1)


def _is_state_dict(content: Mapping[Any, Any]) -> bool:
    """Optimisers and schedulers store arrays too, but not under names of modules."""
    return any(
        isinstance(key, str) and "." in key and hasattr(value, "shape")
        for key, value in content.items()
    )


def _parts(content: Mapping[str, Any], name: str) -> Iterator[Entry]:
    """The state dict itself, or its parts where one of its modules is an average of another.

    Lightning and `ema_pytorch` store `model.conv1.weight` and `ema_model.conv1.weight` in one dict.
    """
    arrays = [key for key, value in content.items() if hasattr(value, "shape") and "." in key]
    modules = dict.fromkeys(key.partition(".")[0] for key in arrays)
    if not any(_AVERAGE.search(module) for module in modules):
        yield Entry(name or TOP, {k: v for k, v in content.items() if not isinstance(v, Mapping)})
        return
    for module in modules:
        start = f"{module}."
        weights = {k.removeprefix(start): v for k, v in content.items() if k.startswith(start)}
        yield Entry(f"{name}.{module}" if name else module, weights)
