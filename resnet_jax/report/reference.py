"""The literature's numbers, and which settings they belong to."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from resnet_jax.config import FIELDS, ModelConfig, canonical
from resnet_jax.plotting.labels import field_label, value_label

Values = Mapping[str, Any]

# What None stands for in a family, and in a field (docs/models.md).
FAMILY_DEFAULTS: dict[str, Values] = {
    "cifar": {"shortcut": "A", "activation_order": "original", "block": "basic", "stem": "cifar"},
    "wide": {
        "shortcut": "B",
        "activation_order": "full_preactivation",
        "block": "basic",
        "stem": "cifar",
    },
}
FIELD_DEFAULTS = {
    "gate_bias": -6.0,
    "shortcut_scale": 0.5,
    "branch_scale": 0.5,
    "shortcut_dropout": 0.5,
}
# Fields of the model that say how it is computed, or that the data decide.
HOW = ("scan_blocks", "remat", "convolution", "dtype", "num_classes", "norm_momentum")

# The published numbers are of whole test splits at the size that CIFAR's images have, one view of each.
_SAME_TEST: Values = {
    "data.image_size": (None, 32),
    "data.crop_fraction": (None, 1),
    "data.eval_split": (None, "test"),
    "evaluate.image_size": (None, 32),
    "evaluate.crop_fraction": (None, 1),
    "evaluate.crops": (None, 1),
    "evaluate.scales": (None, (), (32,)),
}
_CLASSES = {"cifar10": 10, "cifar100": 100}

_SECTIONS = ("data", "train", "optimizer", "schedule")
# Fields that change no result, that the data set or the network is chosen by, or that only optimisers and
# schedules have which no source used.
ELSEWHERE = (
    *_SAME_TEST,
    *("data.name", "data.placement", "data.max_device_bytes"),
    *("optimizer.b2", "optimizer.epsilon", "optimizer.trust_coefficient"),
    "schedule.final_factor",
)
_RECIPE = (
    *(
        name
        for name, field in FIELDS.items()
        if name.split(".")[0] in _SECTIONS and not field.runtime_only and name not in ELSEWHERE
    ),
    *("parallel.batch_statistics", "model.dtype", "model.norm_momentum"),
)
_STEP_SCHEDULE = ("schedule.boundaries", "schedule.factor")
# What a source trained with; all other fields of the recipe have their defaults.
HE: Values = {
    "train.duration": "64000 steps",
    "train.batch_size": 128,
    "optimizer.learning_rate": 0.1,
    "schedule.boundaries": ("32000 steps", "48000 steps"),
    "data.pad": 4,
    "data.flip": True,
}
HE_DEEP: Values = {**HE, "schedule.warmup": "400 steps", "schedule.warmup_start_factor": 0.1}
WIDE: Values = {
    **HE,
    "train.duration": "200 epochs",
    "optimizer.nesterov": True,
    "optimizer.weight_decay": 5e-4,
    "schedule.boundaries": ("60 epochs", "120 epochs", "160 epochs"),
    "schedule.factor": 0.2,
}
STOCHASTIC_DEPTH: Values = {
    **HE,
    "train.duration": "500 epochs",
    "optimizer.nesterov": True,
    "schedule.boundaries": ("250 epochs", "375 epochs"),
    "data.train_split": "train[:45000]",
}
# What no field says.
_MEANS = "images normalised by channel instead of less the mean of each pixel"
_WARMUP = "warm-up along a line instead of at a constant rate"


@dataclass(frozen=True)
class Reference:
    """One published number.

    Attributes:
        data: data set.
        model: field of the model → value; a tuple lists alternatives; others have their defaults.
        error: test error in percent; None: the source gives it as a failure, above 20.
        source: paper and table.
        kind: what the number is, e.g. `median of five runs`.
        recipe: dotted field → value that the source trained with; others have their defaults.
        always: how our training differs with any config.
    """

    data: str
    model: Values
    error: float | None
    source: str
    kind: str
    recipe: Values
    always: tuple[str, ...] = ()


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
        recipe, always = (HE, (_MEANS,)) if depth < 110 else (HE_DEEP, (_MEANS, _WARMUP))
        source = "He et al. 2015, Table 6"
        yield Reference("cifar10", {"depth": depth}, error, source, kind, recipe, always)
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
    kind = "median of five runs"
    return Reference(data, model, error, source, kind, HE_DEEP, (_MEANS, _WARMUP))


REFERENCES = tuple(_references())


def find_references(config: Values, facts: Values | None = None) -> list[Reference]:
    """The published numbers of a config's network on its data set, tested as they were.

    Args:
        config: dotted field → value.
        facts: of data.json, where known. Data of another size, number or classes than the published
            data set have no published number, even under its name.
    """
    data = config.get("data.name")
    if any(config.get(name) not in allowed for name, allowed in _SAME_TEST.items()):
        return []
    facts = facts or {}
    whole: dict[str, Any] = {"eval_examples": 10_000, "image_shape": (32, 32, 3)}
    if config.get("data.train_split") == "train":
        whole["train_examples"] = 50_000
    if any(facts.get(name, number) != number for name, number in whole.items()):
        return []
    if "class_names" in facts and len(facts["class_names"]) != _CLASSES.get(str(data)):
        return []
    return [r for r in REFERENCES if r.data == data and _same_model(r, config)]


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
        if name not in HOW
    )


def _resolved(model: Values) -> dict[str, Any]:
    """All fields of the model, with what their None stands for."""
    full = ModelConfig().to_dict() | dict(model)
    defaults = {**FIELD_DEFAULTS, **FAMILY_DEFAULTS.get(full["family"], {})}
    return {name: defaults.get(name) if v is None else v for name, v in full.items()}


def recipe_differences(
    config: Values, reference: Reference, in_row: Collection[str] = ()
) -> list[str]:
    """`duration 5 epochs instead of 64000 steps`, for each field that makes the training another.

    Args:
        config: dotted field → value.
        reference: the source.
        in_row: fields that the row shows anyway, so that rows can share a note.
    """
    lines = []
    for name in _RECIPE:
        # Only one schedule has steps at which the rate drops; old runs lack new fields.
        other_schedule = config.get("schedule.name") != "step" and name in _STEP_SCHEDULE
        if name not in config or other_schedule:
            continue
        ours = canonical(name, config[name])
        theirs = canonical(name, reference.recipe.get(name, FIELDS[name].default))
        if ours != theirs:
            ours_label = "as in the row" if name in in_row else value_label(name, ours)
            lines.append(f"{field_label(name)} {ours_label} instead of {value_label(name, theirs)}")
    return [*lines, *reference.always]
