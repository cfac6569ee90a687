"""What people call the fields of a config and their values; numbers with units."""

from collections.abc import Sequence
from typing import Any

from resnet_jax.config import FIELDS
from resnet_jax.errors import printable

FIELD_LABELS = {
    "data.name": "data set",
    "data.pad": "crop padding (pixels)",
    "data.cutout": "cutout (pixels)",
    "data.image_size": "image size (pixels)",
    "data.train_split": "training split",
    "evaluate.every": "evaluation interval",
    "log.every": "log interval",
    "checkpoint.every": "checkpoint interval",
    "model.branch_init": "initialisation of branches",
    "model.dtype": "compute type",
    "model.norm": "normalisation",
    "model.width_factor": "width factor",
    "optimizer.name": "optimiser",
    "optimizer.nesterov": "Nesterov momentum",
    "optimizer.reference_batch_size": "batch size that the rate is for",
    "schedule.boundaries": "drops of the rate at",
    "schedule.factor": "factor of a drop",
    "schedule.name": "schedule",
    "schedule.warmup": "warm-up",
    "schedule.warmup_start_factor": "start of the warm-up (share of the rate)",
    "train.clip_gradient_norm": "largest gradient norm",
    "train.duration": "duration",
    "train.ema_decay": "decay of averaged weights",
}

VALUE_LABELS: dict[str, dict[Any, str]] = {
    "model.shortcut": {
        "none": "plain",
        "A": "residual A",
        "B": "residual B",
        "C": "residual C",
        "D": "residual D",
        "shortcut_only_gating": "shortcut-only gating",
        "dropout": "dropout shortcut",
        None: "family's shortcut",
    },
    "model.activation_order": {
        "norm_after_addition": "BN after addition",
        "relu_before_addition": "ReLU before addition",
        "relu_only_preactivation": "ReLU-only pre-activation",
        "full_preactivation": "full pre-activation",
        None: "family's order",
    },
    "model.gate_bias": {None: "default (−6)"},
    "model.shortcut_scale": {None: "default (0.5)"},
    "model.branch_scale": {None: "default (0.5)"},
    "model.shortcut_dropout": {None: "default (0.5)"},
    "steps trained": {None: "as configured"},
    "model.norm": {"batch": "batch norm", "group": "group norm", "layer": "layer norm"},
    "optimizer.name": {"sgd": "SGD", "adamw": "AdamW", "lars": "LARS", "lamb": "LAMB"},
    "optimizer.reference_batch_size": {None: "any"},
    "train.clip_gradient_norm": {None: "any"},
    "train.ema_decay": {None: "none"},
    "data.name": {
        "cifar10": "CIFAR-10",
        "cifar100": "CIFAR-100",
        "digits": "digits",
        "fashion_mnist": "Fashion-MNIST",
        "imagenet2012": "ImageNet",
        "mnist": "MNIST",
    },
}


def field_label(name: str) -> str:
    """`model.gate_bias` → `gate bias`."""
    return FIELD_LABELS.get(name, name.rpartition(".")[2].replace("_", " "))


def value_label(name: str, value: Any) -> str:
    """`model.shortcut`, `none` → `plain`."""
    labels = VALUE_LABELS.get(name, {})
    if value in labels:
        return labels[value]
    if value is None:
        return "default"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(value_label(name, part) for part in value) or "none"
    if isinstance(value, int) and name in FIELDS and FIELDS[name].kind in ("duration", "durations"):
        return count(value, "step")
    if isinstance(value, (int, float)):
        return f"{value:.4g}".replace("-", "−") if isinstance(value, float) else str(value)
    text = printable(value)
    text = text.replace("_", " ") if name.startswith("model.") else text
    # Matplotlib leaves what begins with `_` out of a legend.
    return f"“{text}”" if text.startswith("_") else text


def short_number(number: float | None) -> str:
    """1727962 → `1.73M`."""
    if number is None:
        return "–"
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.3g}{suffix}"
    return f"{number:g}"


def duration(seconds: float | None) -> str:
    """4230 → `1 h 10 min`."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{seconds / 60:.1f} min" if seconds < 600 else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def count(number: int, noun: str) -> str:
    """3, `run` → `3 runs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def enumerate_words(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
