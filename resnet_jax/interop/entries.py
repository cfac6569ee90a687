"""State dicts inside a checkpoint: finding all of them, and choosing one."""

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
    entries = list(_entries(content, "")) or [Entry(TOP, content)]
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


def _entries(content: Mapping[Any, Any], name: str) -> Iterator[Entry]:
    """All state dicts, from the outside in."""
    if _is_state_dict(content):
        yield from _parts(content, name)
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _entries(value, f"{name}.{key}" if name else str(key))


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
