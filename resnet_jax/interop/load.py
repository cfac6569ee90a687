"""Load the weights of other code into our networks."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from resnet_jax.interop.arrays import from_torch, shapes, torch_shape, write_arrays
from resnet_jax.interop.errors import (
    LoadReport,
    Mismatch,
    Missing,
    WeightsError,
    describe_entry,
)
from resnet_jax.interop.namings import Names, bare_name, kinds, recognise
from resnet_jax.interop.preprocessing import Preprocessing, usual_preprocessing
from resnet_jax.interop.sources import StateDict, read
from resnet_jax.models import ResNet

_HEAD = ("head.kernel", "head.bias")
Targets = Mapping[str, jax.ShapeDtypeStruct]


def load_weights(
    model: ResNet,
    source: str | Path | Mapping[str, Any],
    *,
    strict: bool = True,
    skip: Iterable[str] = (),
    entry: str | None = None,
) -> LoadReport:
    """Set parameters and batch statistics of a network from a state dict of PyTorch code.

    Namings (`namings.NAMINGS`) are told apart by themselves: those of torchvision, timm, Hugging Face
    transformers and the common CIFAR and Wide ResNet code. The network may be unrolled, scanned or
    frozen. Where the number of classes differs, the classifier stays as it is, and the report says so.

    Args:
        model: the network; changed only if nothing is raised.
        source: path, hub name or mapping, see `sources.read`. Any float type becomes the model's.
        strict: everything must fit; else what fits is loaded.
        skip: globs on names of either side (`head.*`, `fc.*`), which are not loaded.
        entry: which state dict of a checkpoint that has several: `state_dict`, `model_ema`. None: averaged
            weights first, as in timm; the report says which was taken and which others there are.

    Returns:
        What was loaded, and what was not.

    Raises:
        WeightsError: with `strict`, lists every missing, unexpected and mis-shaped name. In any case, if
            a file cannot be read safely, no array fits, weights are no floats, or a glob of `skip`
            matches nothing.
        FileNotFoundError, ImportError: see `sources.read`.
    """
    values, report = fit_weights(model, source, strict=strict, skip=skip, entry=entry)
    write_arrays(model, values)
    return report


def fit_weights(
    model: ResNet,
    source: str | Path | Mapping[str, Any],
    *,
    strict: bool = True,
    skip: Iterable[str] = (),
    entry: str | None = None,
) -> tuple[dict[str, np.ndarray], LoadReport]:
    """What `load_weights` would set; the network stays as it is and may be abstract (`nnx.eval_shape`).

    Returns:
        Our dotted name in the unrolled layout → array, for `arrays.write_arrays`; and the report.
    """
    state = read(source, entry)
    entry, other_entries = state.entry, state.other_entries
    counters = ("num_batches_tracked", "n_averaged")
    weights = {n: w for n, w in state.weights.items() if not n.endswith(counters)}
    targets = shapes(model)
    in_file = {bare_name(name): name for name, w in weights.items() if isinstance(w, np.ndarray)}
    naming, names = recognise(targets, kinds(model), in_file)
    matched = _match(names, in_file)
    skipped = _skipped(skip, names, matched, weights)
    arrays = {
        ours: _convert(theirs, weights[theirs], targets[ours])
        for ours, theirs in matched.items()
        if ours not in skipped
    }
    other_classes = _other_classes(arrays, targets)
    ignored = skipped | set(_HEAD if other_classes is not None else ())
    left_out = _left_out(targets, names, matched, weights, arrays, ignored)
    taken = "" if entry is None else f", entry {describe_entry(entry, other_entries)},"
    values = {o: a for o, a in arrays.items() if o not in ignored and a.shape == targets[o].shape}
    if strict and any(left_out.values()):
        raise WeightsError(f"weights in {naming} naming{taken} do not fit the model:", **left_out)
    if not values:
        raise WeightsError(f"no array of the weights{taken} fits the model:", **left_out)
    report = LoadReport(
        naming,
        tuple(values),
        skipped=tuple(sorted(skipped.difference(matched.values()))),
        other_classes=other_classes,
        entry=entry,
        other_entries=other_entries,
        preprocessing=_preprocessing(state, naming, model),
        **left_out,
    )
    return values, report


def _preprocessing(state: StateDict, naming: str, model: ResNet) -> Preprocessing | None:
    if state.preprocessing is not None or state.is_ours:
        return state.preprocessing
    return usual_preprocessing(naming, model)


def _match(names: Names, in_file: Mapping[str, str]) -> dict[str, str]:
    """Our name → the first of its names there that the file has, as the file spells it."""
    matched = {}
    for ours, theirs in names.items():
        found = [in_file[name] for name in map(bare_name, theirs) if name in in_file]
        if found:
            matched[ours] = found[0]
    return matched


def _skipped(
    globs: Iterable[str], names: Names, matched: Mapping[str, str], weights: Mapping[str, Any]
) -> set[str]:
    """The names of both sides that a glob matches on either.

    Raises:
        WeightsError: a glob matches nothing.
    """
    skipped: set[str] = set()
    for glob in [globs] if isinstance(globs, str) else globs:
        found = {name for name in weights if fnmatchcase(name, glob)}
        for ours, theirs in names.items():
            alike = (ours, *theirs, *map(bare_name, theirs), matched.get(ours, ""))
            if any(fnmatchcase(name, glob) for name in alike):
                found.add(ours)
        if not found:
            raise WeightsError(f"skip: {glob!r} is no name in the model or in the weights")
        skipped |= found
    ours_of = {theirs: ours for ours, theirs in matched.items()}
    skipped |= {matched[name] for name in skipped if name in matched}
    return skipped | {ours_of[name] for name in skipped if name in ours_of}


def _convert(theirs: str, weight: np.ndarray, target: jax.ShapeDtypeStruct) -> np.ndarray:
    """An array in our layout and type, if its shape allows."""
    if not jnp.issubdtype(weight.dtype, jnp.floating):
        raise WeightsError(f"{theirs} is {weight.dtype}: only weights of float types are read")
    return from_torch(weight, target.ndim).astype(target.dtype)


def _other_classes(arrays: Mapping[str, np.ndarray], targets: Targets) -> int | None:
    """The number of classes in the weights, where that is all in which the classifiers differ."""
    if _HEAD[0] not in arrays:
        return None
    found, expected = arrays[_HEAD[0]].shape, targets[_HEAD[0]].shape
    differ = len(found) == 2 and found[0] == expected[0] and found[1] != expected[1]
    return found[1] if differ else None


def _left_out(
    targets: Targets,
    names: Names,
    matched: Mapping[str, str],
    weights: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    ignored: set[str],
) -> dict[str, Any]:
    """What does not fit: `missing`, `unexpected` and `misshaped`."""
    missing = [
        Missing(ours, theirs[0] if theirs else "")
        for ours, theirs in names.items()
        if ours not in matched and ours not in ignored
    ]
    used = ignored.union(matched.values())
    misshaped = [
        Mismatch(
            ours, matched[ours], torch_shape(targets[ours].shape), weights[matched[ours]].shape
        )
        for ours, array in arrays.items()
        if ours not in ignored and array.shape != targets[ours].shape
    ]
    unexpected = [name for name in weights if name not in used]
    return {
        "missing": tuple(missing),
        "unexpected": tuple(unexpected),
        "misshaped": tuple(misshaped),
    }
