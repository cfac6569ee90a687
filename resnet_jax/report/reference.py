"""The literature's numbers, and which settings they belong to."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from resnet_jax.config import SCHEMA
from resnet_jax.report.labels import field_label, value_label

Values = Mapping[str, Any]

# What None stands for in a family, and in a field (docs/models.md).
_FAMILIES: dict[str, Values] = {
    "cifar": {"shortcut": "A", "activation_order": "original", "block": "basic", "stem": "cifar"},
    "wide": {
        "shortcut": "B",
        "activation_order": "full_preactivation",
        "block": "basic",
        "stem": "cifar",
    },
}
_NONE = {"gate_bias": -6.0, "shortcut_scale": 0.5, "branch_scale": 0.5, "shortcut_dropout": 0.5}
# Fields of the model that say how it is computed, or that the data decide.
_HOW = ("scan_blocks", "remat", "convolution", "dtype", "num_classes", "norm_momentum")

HE: Values = {
    "train.duration": "64000 steps",
    "train.batch_size": 128,
    "train.label_smoothing": 0.0,
    "optimizer.name": "sgd",
    "optimizer.learning_rate": 0.1,
    "optimizer.momentum": 0.9,
    "optimizer.weight_decay": 1e-4,
    "schedule.name": "step",
    "data.train_split": "train",
    "data.pad": 4,
    "data.flip": True,
    "data.cutout": 0,
}
WIDE: Values = {
    **HE,
    "train.duration": "200 epochs",
    "optimizer.nesterov": True,
    "optimizer.weight_decay": 5e-4,
    "schedule.factor": 0.2,
}
STOCHASTIC_DEPTH: Values = {**HE, "train.duration": "500 epochs"}


@dataclass(frozen=True)
class Reference:
    """One published number.

    Attributes:
        data: data set.
        model: field of the model → value; a tuple lists alternatives; others have their defaults.
        error: test error in percent; None: the source gives it as a failure, above 20.
        source: paper and table.
        kind: what the number is, e.g. `median of five runs`.
        recipe: dotted field → value that the source trained with.
    """

    data: str
    model: Values
    error: float | None
    source: str
    kind: str
    recipe: Values


_HE_2015 = {20: 8.75, 32: 7.51, 44: 7.17, 56: 6.97, 110: 6.61, 1202: 7.93}
# 110 layers on CIFAR-10; None: fail.
_HE_2016_SHORTCUTS: tuple[tuple[Values, float | None], ...] = (
    ({"shortcut": "A"}, 6.61),
    ({"shortcut": "none"}, None),
    ({"shortcut": "constant_scaling", "shortcut_scale": 0.5, "branch_scale": 0.5}, 12.35),
    ({"shortcut": "constant_scaling", "shortcut_scale": 0.5, "branch_scale": 1.0}, None),
    ({"shortcut": "exclusive_gating", "gate_bias": -6.0}, 8.70),
    ({"shortcut": "exclusive_gating", "gate_bias": -7.0}, 9.81),
    ({"shortcut": "exclusive_gating", "gate_bias": (0.0, -1.0, -2.0, -3.0, -4.0, -5.0)}, None),
    ({"shortcut": "shortcut_only_gating", "gate_bias": 0.0}, 12.86),
    ({"shortcut": "shortcut_only_gating", "gate_bias": -6.0}, 6.91),
    ({"shortcut": "C"}, 12.22),
    ({"shortcut": "dropout", "shortcut_dropout": 0.5}, None),
)
# Order → error of 110 and 164 layers on CIFAR-10.
_HE_2016_ORDERS = {
    "original": (6.61, 5.93),
    "norm_after_addition": (8.17, 6.50),
    "relu_before_addition": (7.84, 6.14),
    "relu_only_preactivation": (6.71, 5.91),
    "full_preactivation": (6.37, 5.46),
}
# Data set, depth, error of the original order and of full pre-activation.
_HE_2016_DEEP = (
    ("cifar10", 1001, 7.61, 4.92),
    ("cifar100", 164, 25.16, 24.33),
    ("cifar100", 1001, 27.82, 22.71),
)
# Data set, dropout, error of WRN-28-10.
_WIDE_RESNET = (
    ("cifar10", 0.0, 4.00),
    ("cifar100", 0.0, 19.25),
    ("cifar10", 0.3, 3.89),
    ("cifar100", 0.3, 18.85),
)
# Depth, survival probability of the last block, error on CIFAR-10.
_STOCHASTIC_DEPTH = ((110, 1.0, 6.41), (110, 0.5, 5.25), (1202, 1.0, 6.67), (1202, 0.5, 4.91))


def _references() -> Iterator[Reference]:
    for depth, error in _HE_2015.items():
        kind = "mean of five runs, ± 0.16; the best: 6.43" if depth == 110 else "one run"
        yield Reference("cifar10", {"depth": depth}, error, "He et al. 2015, Table 6", kind, HE)
    for fields, failed in _HE_2016_SHORTCUTS:
        yield _he_2016(1, "cifar10", {"depth": 110, **fields}, failed)
    for order, errors in _HE_2016_ORDERS.items():
        for depth, error in zip((110, 164), errors, strict=True):
            yield _he_2016(2, "cifar10", _deep(depth, order), error)
    for data, depth, original, preactivation in _HE_2016_DEEP:
        yield _he_2016(3, data, _deep(depth, "original"), original)
        yield _he_2016(3, data, _deep(depth, "full_preactivation"), preactivation)
    for data, dropout, error in _WIDE_RESNET:
        model = {"family": "wide", "depth": 28, "width_factor": 10, "dropout": dropout}
        source = "Zagoruyko & Komodakis 2016, Table 6"
        yield Reference(data, model, error, source, "median of five runs", WIDE)
    for depth, survival, error in _STOCHASTIC_DEPTH:
        model = {"depth": depth, "survival_probability": survival}
        source = "Huang et al. 2016, §4"
        yield Reference("cifar10", model, error, source, "one run", STOCHASTIC_DEPTH)


def _deep(depth: int, order: str) -> dict[str, Any]:
    bottleneck = {"block": "bottleneck", "shortcut": ("A", "B")} if depth > 110 else {}
    return {"depth": depth, "activation_order": order, **bottleneck}


def _he_2016(table: int, data: str, model: Values, error: float | None) -> Reference:
    source = f"He et al. 2016, Table {table}"
    return Reference(data, model, error, source, "median of five runs", HE)


REFERENCES = tuple(_references())


def find_references(config: Values) -> list[Reference]:
    """The published numbers of a config's network on its data set.

    Args:
        config: dotted field → value.
    """
    return [r for r in REFERENCES if r.data == config.get("data.name") and _same_model(r, config)]


def _same_model(reference: Reference, config: Values) -> bool:
    wanted = _resolved(reference.model)
    found = _resolved(
        {
            name.removeprefix("model."): value
            for name, value in config.items()
            if name.startswith("model.")
        }
    )
    return all(
        found[name] in (value if isinstance(value, tuple) and value else (value,))
        for name, value in wanted.items()
        if name not in _HOW
    )


def _resolved(model: Values) -> dict[str, Any]:
    """All fields of the model, with what their None stands for."""
    full = {name: field.default for name, field in SCHEMA["model"].items()} | dict(model)
    defaults = {**_NONE, **_FAMILIES.get(full["family"], {})}
    return {name: defaults.get(name) if v is None else v for name, v in full.items()}


def recipe_differences(config: Values, reference: Reference) -> list[str]:
    """`duration 5 epochs instead of 64000 steps`, for each field of the source's recipe."""
    lines = []
    for name, theirs in reference.recipe.items():
        ours = config.get(name)
        if name == "train.duration" and isinstance(ours, int):
            ours = f"{ours} steps"
        if ours != theirs:
            label = field_label(name)
            ours_label, theirs_label = value_label(name, ours), value_label(name, theirs)
            lines.append(f"{label} {ours_label} instead of {theirs_label}")
    return lines
