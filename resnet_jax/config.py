"""Every config field: its default, unit and meaning; what is legal; steps and epochs.

A config file has a `get_config()` that starts from `default_config()` and sets literal values. A
duration is a number of optimiser steps (`64000` or `"64000 steps"`) or of epochs (`"90 epochs"`).
"""

import math
import numbers
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from resnet_jax.errors import UserError, letters_of, most_like
from resnet_jax.paths import is_url
from resnet_jax.wording import first_few

Duration = int | str
Check = Callable[[Any], bool]

POSITIVE: tuple[str, Check] = ("greater than 0", lambda v: v > 0)


def up_to(most: int, least: int = 1) -> tuple[str, Check]:
    """Whole numbers in a range whose end is beyond use: what is larger is a slip, and never ends."""
    return f"from {least} to {most}", lambda v: least <= v <= most


NON_NEGATIVE: tuple[str, Check] = ("0 or greater", lambda v: v >= 0)
FRACTION: tuple[str, Check] = ("from 0 to 1, without 1", lambda v: 0 <= v < 1)
PROBABILITY: tuple[str, Check] = ("from 0 to 1", lambda v: 0 <= v <= 1)
NO_URL: tuple[str, Check] = (
    "a path of a mounted file system, not a URL",
    lambda v: not is_url(v),
)
# TFDS itself reads buckets of Google.
NO_OTHER_URL: tuple[str, Check] = (
    "a path of a mounted file system, or gs://… for TFDS",
    lambda v: not is_url(v) or v.startswith("gs://"),
)
# Pixels a side of an image.
LARGEST_SIDE = 8192
# Optimisers count steps in 32 bits.
MOST_STEPS = 2**31 - 1
ANY: tuple[str, Check] = ("anything", lambda v: True)


class Field(NamedTuple):
    """One config field.

    Attributes:
        kind: `int`, `float`, `bool`, `str` or `duration`; `ints`, `floats`, `strs` and `durations` are
            lists.
        default: its value where a config sets none.
        meaning: what it does, with its unit.
        rule: what values are legal, in words and as a predicate.
        optional: whether `None` is legal.
        place: it says where a run happens, not what it computes, so a run may go on with another value.
        path: it names, or can name, a file or directory.
    """

    kind: str
    default: Any
    meaning: str
    rule: tuple[str, Check] = ANY
    optional: bool = False
    place: bool = False
    path: bool = False


SCHEMA: dict[str, Any] = {
    "seed": Field(
        "int",
        0,
        "seed of initialisation, order, augmentation and dropout",
        ("from 0 to 4294967295", lambda v: 0 <= v < 2**32),
    ),
    "model": {
        "family": Field(
            "str", "cifar", "cifar, wide (3 stages, 16-64 filters) or imagenet (4, 64-512)"
        ),
        "depth": Field("int", 20, "weighted layers on the main path", up_to(10_000)),
        "block": Field("str", None, "basic or bottleneck; None: the paper's", optional=True),
        "activation_order": Field(
            "str",
            None,
            "original, norm_after_addition, relu_before_addition, relu_only_preactivation or "
            "full_preactivation; None: the family's",
            optional=True,
        ),
        "shortcut": Field(
            "str",
            None,
            "none, A, B, C, D, constant_scaling, exclusive_gating, shortcut_only_gating, dropout or "
            "highway; None: the family's",
            optional=True,
        ),
        "gate_bias": Field("float", None, "of gates, at the start; None: -6", optional=True),
        "shortcut_scale": Field(
            "float", None, "factor of x in constant_scaling; None: 0.5", optional=True
        ),
        "branch_scale": Field(
            "float", None, "factor of F(x) in constant_scaling; None: 0.5", optional=True
        ),
        "shortcut_dropout": Field(
            "float", None, "rate of the dropout shortcut; None: 0.5", FRACTION, optional=True
        ),
        "branch_init": Field("str", "he", "he, zero_gamma, fixup, skipinit, rezero or layerscale"),
        "initial_scale": Field(
            "float",
            None,
            "of skipinit (None: 1/√blocks) and layerscale (None: 1e-4)",
            optional=True,
        ),
        "stem": Field(
            "str", None, "cifar, imagenet, bit, deep or patchify; None: the family's", optional=True
        ),
        "num_classes": Field(
            "int", None, "size of the logits; None: the data set's", POSITIVE, optional=True
        ),
        "width_factor": Field("int", 1, "multiplies the filters of every stage", up_to(10**6)),
        "groups": Field("int", 1, "of a bottleneck's 3×3 convolution (ResNeXt)", up_to(10**6)),
        "bottleneck_width": Field(
            "int", 1, "filters of a bottleneck's 3×3 convolution, as a multiple", up_to(10**6)
        ),
        "stride_in_1x1": Field("bool", False, "bottleneck stride in the first 1×1 convolution"),
        "squeeze_reduction": Field(
            "int",
            None,
            "r of squeeze-and-excitation; None: there is none",
            up_to(10**6),
            optional=True,
        ),
        "dropout": Field("float", 0.0, "rate before the last convolution of a branch", FRACTION),
        "survival_probability": Field(
            "float",
            1.0,
            "of the last block in stochastic depth; 1: none",
            ("greater than 0, at most 1", lambda v: 0 < v <= 1),
        ),
        "stochastic_depth_scaling": Field(
            "str", "test", "test: scale branches in evaluation, as the paper; train: in training"
        ),
        "antialias": Field(
            "bool", False, "low-pass filter where branches, skip paths and max pools stride"
        ),
        "norm": Field("str", "batch", "batch, frozen_batch, group, layer or none"),
        "norm_momentum": Field("float", 0.9, "weight of old batch statistics", FRACTION),
        "norm_epsilon": Field("float", 1e-5, "added to the variance", POSITIVE),
        "norm_groups": Field(
            "int",
            None,
            "of norm group; None: 32, or fewer so that a group has 4 channels",
            up_to(10**6),
            optional=True,
        ),
        "weight_standardization": Field("bool", False, "convolve with standardised filters"),
        "init_from": Field(
            "str",
            None,
            "weights to start from: a run directory, a .pth or .safetensors file, or hf://OWNER/NAME",
            optional=True,
            path=True,
        ),
        "init_entry": Field(
            "str",
            None,
            "of a file with several state dicts, the one to take: state_dict, model_ema; of a run, the "
            "checkpoint; None: averaged weights first, and the latest",
            optional=True,
        ),
        "freeze": Field("strs", (), "parts that stay as they are, statistics too: 'stem, stage1'"),
        "scan_blocks": Field(
            "bool",
            None,
            "run the blocks of a stage as one compiled loop; None: where all stages have 9 or more",
            optional=True,
        ),
        "remat": Field("str", "none", "none, block or stage: computed again in the backward pass"),
        "convolution": Field(
            "str",
            "auto",
            "native, loop_safe, onednn, or auto: on a CPU onednn where it was found right, else "
            "loop_safe; elsewhere native",
        ),
        "dtype": Field(
            "str",
            "float32",
            "compute type: float32, bfloat16 or float64; float16 is not for training",
        ),
    },
    "data": {
        "name": Field(
            "str",
            "digits",
            "digits, synthetic, folder:PATH, hf:NAME, hf:PATH, or a TFDS name such as cifar10",
            path=True,
        ),
        "data_dir": Field(
            "str",
            None,
            "TFDS directory, None: $TFDS_DATA_DIR or TFDS's default; where a relative PATH begins",
            NO_OTHER_URL,
            optional=True,
            place=True,
            path=True,
        ),
        "cache_dir": Field(
            "str",
            None,
            "decoded images; None: $RESNET_JAX_CACHE or ~/.cache/resnet_jax",
            NO_URL,
            optional=True,
            place=True,
            path=True,
        ),
        "train_split": Field("str", "train", "split trained on; TFDS sub-splits work"),
        "eval_split": Field("str", None, "None: test, or else validation or val", optional=True),
        "image_size": Field(
            "int",
            None,
            "height and width in pixels; None: the data set's own",
            up_to(LARGEST_SIDE),
            optional=True,
        ),
        "crop_fraction": Field(
            "float",
            1.0,
            "share of the shorter side that the centre crop to image_size keeps",
            ("greater than 0, at most 1", lambda v: 0 < v <= 1),
        ),
        "mean": Field(
            "floats",
            None,
            "of each channel, subtracted from pixels of 0 to 1; None: as for the weights "
            "in model.init_from, else as measured of the training images",
            PROBABILITY,
            optional=True,
        ),
        "std": Field(
            "floats",
            None,
            "of each channel, which pixels are divided by; None: as of data.mean",
            POSITIVE,
            optional=True,
        ),
        "interpolation": Field(
            "str",
            None,
            "filter that resizes images: bilinear, bicubic, lanczos or nearest; None: as for the "
            "weights in model.init_from, else bilinear",
            optional=True,
        ),
        "random_resized_crop": Field(
            "bool", False, "train on random crops of 8-100% of the area (placement stream only)"
        ),
        "placement": Field(
            "str", "auto", "device (decoded once, kept there), stream, or auto: device if it fits"
        ),
        "max_device_bytes": Field(
            "int", 2**31, "largest decoded split that auto puts on the device, in bytes", POSITIVE
        ),
        "num_threads": Field(
            "int", 4, "threads that decode images, in each process", up_to(1024), place=True
        ),
        "num_processes": Field(
            "int",
            0,
            "processes that decode streamed training images; 0: this one",
            up_to(1024, 0),
            place=True,
        ),
        "max_bad_examples": Field(
            "int",
            0,
            "unreadable images that a run tolerates, of all splits",
            NON_NEGATIVE,
            place=True,
        ),
        "repeats": Field(
            "int",
            1,
            "times in a row that a batch has each image, each augmented on its own",
            up_to(10**6),
        ),
        "pad": Field(
            "int", 0, "zero padding before a random crop, in pixels", up_to(LARGEST_SIDE, 0)
        ),
        "flip": Field("bool", False, "mirror left to right with probability 1/2"),
        "cutout": Field(
            "int", 0, "side of a square set to the mean, in pixels", up_to(LARGEST_SIDE, 0)
        ),
        "brightness": Field(
            "float", 0.0, "jitter: times a factor from 1 - value to 1 + value", NON_NEGATIVE
        ),
        "contrast": Field("float", 0.0, "jitter of the contrast, as of brightness", NON_NEGATIVE),
        "saturation": Field(
            "float", 0.0, "jitter of the saturation, as of brightness", NON_NEGATIVE
        ),
        "hue": Field(
            "float",
            0.0,
            "jitter: turn from -value to value, as a share of the colour circle",
            ("from 0 to 0.5", lambda v: 0 <= v <= 0.5),
        ),
        "pca_noise": Field(
            "float",
            0.0,
            "deviation of a shift along ImageNet's principal colours; 0.1 is usual",
            NON_NEGATIVE,
        ),
        "policy": Field(
            "str", "none", "none, rand_augment or trivial_augment_wide: random operations"
        ),
        "rand_augment_layers": Field("int", 2, "operations on an image, in turn", up_to(100)),
        "rand_augment_magnitude": Field(
            "float", 9.0, "of the operations", ("from 0 to 10", lambda v: 0 <= v <= 10)
        ),
        "rand_augment_deviation": Field(
            "float", 0.0, "of normal noise added to each magnitude", NON_NEGATIVE
        ),
        "rand_augment_probability": Field(
            "float", 1.0, "that an operation drawn is applied", PROBABILITY
        ),
        "erase": Field("float", 0.0, "probability of random erasing", PROBABILITY),
        "erase_fill": Field("str", "mean", "what is put there: mean or noise"),
    },
    "train": {
        "duration": Field("duration", "10 epochs", "length of the training", POSITIVE),
        "batch_size": Field(
            "int", 128, "images per optimiser step, over all devices", up_to(10**7)
        ),
        "loss": Field(
            "str",
            "cross_entropy",
            "cross_entropy, or binary_cross_entropy of each class; evaluation has cross_entropy",
        ),
        "label_smoothing": Field("float", 0.0, "share of the target spread evenly", FRACTION),
        "target_threshold": Field(
            "float",
            None,
            "binary_cross_entropy: targets above it are 1, others 0; None: as they are",
            FRACTION,
            optional=True,
        ),
        "mixup": Field("float", 0.0, "α of mixup; 0: none", NON_NEGATIVE),
        "cutmix": Field(
            "float", 0.0, "α of cutmix; 0: none; with mixup, each image has one", NON_NEGATIVE
        ),
        "clip_gradient_norm": Field(
            "float",
            None,
            "largest global norm of the gradient; None: no clipping",
            POSITIVE,
            optional=True,
        ),
        "ema_decay": Field(
            "float",
            None,
            "decay per update of averaged weights, which are then evaluated; None: off",
            FRACTION,
            optional=True,
        ),
        "ema_warmup": Field(
            "bool", False, "let the decay begin at 0.1 and rise: (1 + t) / (10 + t), t updates"
        ),
        "ema_every": Field("int", 1, "steps between updates of averaged weights", POSITIVE),
        "accumulate_steps": Field("int", 1, "parts a batch is processed in, in turn", up_to(10**6)),
        "steps_per_call": Field("int", 1, "steps in one compiled call", up_to(10**6), place=True),
    },
    "optimizer": {
        "name": Field("str", "sgd", "sgd, adamw, lars or lamb"),
        "learning_rate": Field("float", 0.1, "peak learning rate", POSITIVE),
        "reference_batch_size": Field(
            "int",
            None,
            "learning rate is for this batch size and scales with batch_size; None: as is",
            POSITIVE,
            optional=True,
        ),
        "momentum": Field("float", 0.9, "of sgd and lars; b1 of adamw and lamb", FRACTION),
        "nesterov": Field("bool", False, "Nesterov momentum (sgd and lars)"),
        "b2": Field("float", 0.999, "decay of squared gradients (adamw, lamb)", FRACTION),
        "epsilon": Field("float", 1e-8, "added to the root of squared gradients", POSITIVE),
        "trust_coefficient": Field("float", 0.001, "of lars", POSITIVE),
        "weight_decay": Field("float", 1e-4, "coefficient of w in the update", NON_NEGATIVE),
        "decay_norm_and_bias": Field("bool", True, "decay norm scales and biases too"),
    },
    "schedule": {
        "name": Field("str", "step", "step, cosine or constant"),
        "warmup": Field("duration", 0, "linear warm-up", NON_NEGATIVE),
        "warmup_start_factor": Field(
            "float", 0.0, "learning rate at step 0, as a share of the peak", FRACTION
        ),
        "boundaries": Field(
            "durations", (), "when `step` multiplies the rate by `factor`", POSITIVE
        ),
        "factor": Field("float", 0.1, "of the `step` schedule", POSITIVE),
        "final_factor": Field(
            "float", 0.0, "where `cosine` ends, as a share of the peak", NON_NEGATIVE
        ),
    },
    "evaluate": {
        "every": Field(
            "duration", "1 epoch", "interval of evaluations; the end is always one", POSITIVE
        ),
        "batch_size": Field(
            "int",
            500,
            "images per call, rounded up to a multiple of the devices",
            up_to(10**7),
            place=True,
        ),
        "scales": Field(
            "ints",
            (),
            "shorter sides in pixels that each image is resized to; logits are averaged; (): as is",
            up_to(LARGEST_SIDE),
        ),
        "image_size": Field(
            "int",
            None,
            "height and width in pixels; None: data.image_size, or where that is set the largest of "
            "evaluate.scales",
            up_to(LARGEST_SIDE),
            optional=True,
        ),
        "crop_fraction": Field(
            "float",
            None,
            "share of the shorter side that crops keep; None: data.crop_fraction",
            ("greater than 0, at most 1", lambda v: 0 < v <= 1),
            optional=True,
        ),
        "crops": Field(
            "int",
            1,
            "1, or 10: corners and centre, also mirrored; logits are averaged",
            ("1 or 10", lambda v: v in (1, 10)),
        ),
    },
    "checkpoint": {
        "every": Field(
            "duration", "1 epoch", "interval of checkpoints; the end is always one", POSITIVE
        ),
        "keep_last": Field("int", 2, "newest checkpoints kept", POSITIVE, place=True),
        "keep_best": Field("int", 1, "checkpoints kept by accuracy", NON_NEGATIVE, place=True),
    },
    "log": {
        "every": Field(
            "duration", "50 steps", "interval of train lines in metrics.jsonl", POSITIVE
        ),
        "tensorboard": Field("bool", False, "also write TensorBoard events", place=True),
    },
    "parallel": {
        "mode": Field(
            "str", "jit", "jit (one program over a mesh) or pmap (a replica per device)", place=True
        ),
        "batch_statistics": Field(
            "str",
            "global",
            "global: over the whole batch; per_device (pmap): over a device's share",
        ),
        "num_devices": Field(
            "int",
            None,
            "devices to use, as many of each process; None: all",
            POSITIVE,
            optional=True,
            place=True,
        ),
        "fsdp": Field(
            "int",
            1,
            "devices over which parameters, optimiser state and averages are sharded (jit)",
            POSITIVE,
            place=True,
        ),
    },
}


def fields(schema: Mapping[str, Any] = SCHEMA, prefix: str = "") -> Iterator[tuple[str, Field]]:
    """All (dotted name, field) of the schema, in order."""
    for name, entry in schema.items():
        if isinstance(entry, Field):
            yield prefix + name, entry
        else:
            yield from fields(entry, f"{prefix}{name}.")


FIELDS = dict(fields())


def default_config() -> ConfigDict:
    """A config with every field at its default; a field that does not exist cannot be set."""

    def defaults(schema: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
        return {
            name: canonical(prefix + name, entry.default)
            if isinstance(entry, Field)
            else defaults(entry, f"{prefix}{name}.")
            for name, entry in schema.items()
        }

    # Types are checked by `validate`: ConfigDict's own check would refuse `3` for `"10 epochs"`.
    return ConfigDict(defaults(SCHEMA), type_safe=False).lock()


def find_field(name: str) -> Field:
    if name in FIELDS:
        return FIELDS[name]
    inside = [known for known in FIELDS if known.startswith(f"{name}.")]
    if inside:
        raise UserError(
            "--config", name, "is a section", f"name one of its fields: {first_few(inside)}"
        )
    meant = field_meant(name)
    hint = "the fields are listed by `train --help`"
    if meant is not None:
        # Who says `epochs` is not to get as many steps.
        how = ", e.g. '64000 steps' or '90 epochs'" if FIELDS[meant].kind == "duration" else ""
        hint = f"did you mean {meant!r}{how}?"
    raise UserError("--config", name, "no such config field", hint)


# What other trainers call a field whose name here is not like theirs.
OTHER_NAMES = {
    "accum": "train.accumulate_steps",
    "amp": "model.dtype",
    "arch": "model.family",
    "architecture": "model.family",
    "batch": "train.batch_size",
    "beta1": "optimizer.momentum",
    "beta2": "optimizer.b2",
    "bs": "train.batch_size",
    "criterion": "train.loss",
    "crop_pct": "data.crop_fraction",
    "dataset": "data.name",
    "drop_path": "model.survival_probability",
    "epochs": "train.duration",
    "fp16": "model.dtype",
    "gamma": "schedule.factor",
    "gpus": "parallel.num_devices",
    "grad_clip": "train.clip_gradient_norm",
    "iterations": "train.duration",
    "layers": "model.depth",
    "lr": "optimizer.learning_rate",
    "lr_scheduler": "schedule.name",
    "max_epochs": "train.duration",
    "max_grad_norm": "train.clip_gradient_norm",
    "max_steps": "train.duration",
    "milestones": "schedule.boundaries",
    "mixed_precision": "model.dtype",
    "num_epochs": "train.duration",
    "num_gpus": "parallel.num_devices",
    "num_steps": "train.duration",
    "opt": "optimizer.name",
    "optim": "optimizer.name",
    "precision": "model.dtype",
    "pretrained": "model.init_from",
    "random_seed": "seed",
    "resnet_depth": "model.depth",
    "resolution": "data.image_size",
    "save_every": "checkpoint.every",
    "scheduler": "schedule.name",
    "steps": "train.duration",
    "total_steps": "train.duration",
    "warmup_epochs": "schedule.warmup",
    "warmup_steps": "schedule.warmup",
    "wd": "optimizer.weight_decay",
    "weights": "model.init_from",
    "workers": "data.num_threads",
    "num_workers": "data.num_threads",
}


def field_meant(name: str) -> str | None:
    """The field that is probably meant by a name that none has."""
    leaf = letters_of(name.rpartition(".")[2])
    others = {letters_of(other): field for other, field in OTHER_NAMES.items()}
    # The last part alone: `train.weight-decay` is in another section, `weight-decay` in none.
    leaves = {letters_of(field.rpartition(".")[2]): field for field in reversed(FIELDS)}
    if leaf not in ("name", "every") and leaf in others | leaves:
        return others.get(leaf) or leaves[leaf]
    alike = most_like(name.rpartition(".")[2], [field.rpartition(".")[2] for field in FIELDS])
    return most_like(name, FIELDS) or (leaves[letters_of(alike)] if alike else None)


def validate(config: ConfigDict) -> ConfigDict:
    """Check that a config has exactly the fields of the schema, of the right kind and range.

    Returns:
        A locked copy in which every value has its one spelling (`canonical`).

    Raises:
        UserError: names the first field that is wrong, what is allowed and how to fix it.
    """
    values = flatten(config.to_dict())
    for name in values:
        find_field(name)
    checked = default_config().unlock()
    for name in FIELDS:
        if name not in values:
            raise UserError("--config", name, "is missing", "start from default_config()")
        set_field(checked, name, canonical(name, values[name]))
    return checked.lock()


def set_field(config: ConfigDict, name: str, value: Any) -> None:
    """Set a dotted field of a config that is not locked."""
    *sections, last = name.split(".")
    node = config
    for section in sections:
        node = node[section]
    node[last] = value


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts to {dotted name: value}."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


_ALLOWED = {
    "int": "a whole number",
    "float": "a number",
    "bool": "True or False",
    "str": "text",
    "duration": "a duration: '64000 steps' or '90 epochs'",
    "ints": "a list of whole numbers: '224, 256'",
    "floats": "a list of numbers: '0.485, 0.456, 0.406'",
    "strs": "a list of names: 'stem, stage1'",
    "durations": "a list of durations: '30 epochs, 60 epochs'",
}
_DURATION = re.compile(
    r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*(steps?|epochs?)?", re.IGNORECASE
)


def canonical(name: str, value: Any) -> Any:
    """The one spelling of a legal value, so that equal settings are equal values.

    `64000`, `"64000 steps"` and `64000.0` are the duration 64000, `"90.0 epochs"` is `"90 epochs"`; of a
    float field `1` and `"1e0"` are 1.0; lists are tuples.

    Args:
        name: dotted field.
        value: of any legal spelling, or its text.

    Raises:
        UserError: no such field, or an illegal value.
    """
    field = find_field(name)
    # `none` is a choice of some text fields: model.shortcut.
    is_none = value == "None" or (field.kind != "str" and str(value).lower() == "none")
    if field.optional and (value is None or is_none):
        return None
    if field.kind in ("ints", "floats", "strs", "durations"):
        part = field._replace(kind=field.kind[:-1])
        return tuple(_canonical(name, part, item) for item in _items(name, field, value))
    return _canonical(name, field, value)


def _items(name: str, field: Field, value: Any) -> Iterable[Any]:
    if isinstance(value, str):
        parts = (part.strip(" '\"") for part in value.strip("()[] ").split(","))
        return [part for part in parts if part]
    if isinstance(value, tuple | list):
        return value
    raise UserError(name, value, f"must be {_ALLOWED[field.kind]}")


def _canonical(name: str, field: Field, value: Any) -> Any:
    result: Any
    if field.kind == "duration":
        result, number = _duration(name, value)
    else:
        result = number = _CONVERSIONS[field.kind](value)
    if result is None:
        optional = ", or None" if field.optional else ""
        raise UserError(name, value, f"must be {_ALLOWED[field.kind]}{optional}")
    words, legal = field.rule
    # `not legal` also refuses a NaN.
    if not legal(number):
        raise UserError(name, result, f"must be {words}")
    if isinstance(number, float) and not math.isfinite(number):
        raise UserError(name, result, "must be finite")
    return result


def _float(value: Any) -> float | None:
    """A number or its text; None: it is neither."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    try:
        # No -0.0.
        return float(value) + 0.0 if is_number else None
    except OverflowError:
        return None


def _int(value: Any) -> int | None:
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            pass
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    number = _float(value)
    return int(number) if number is not None and number.is_integer() else None


def _bool(value: Any) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower())
    return value if isinstance(value, bool) else None


def _str(value: Any) -> str | None:
    return value if isinstance(value, str) else None


_CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "int": _int,
    "float": _float,
    "bool": _bool,
    "str": _str,
}


def _duration(name: str, value: Any) -> tuple[Duration | None, float]:
    """Its one spelling, and its number; None: it is no duration."""
    if not isinstance(value, str) and _float(value) is None:
        return None, math.nan
    amount, unit = _amount(name, value)
    if unit == "step" or amount == 0:
        return int(amount), amount
    number = int(amount) if amount.is_integer() else amount
    return f"{number} epoch{'' if number == 1 else 's'}", amount


def _amount(name: str, duration: Any) -> tuple[float, str]:
    match = _DURATION.fullmatch(str(duration).strip())
    if not match:
        raise UserError(name, duration, "is no duration", "write '64000 steps' or '90 epochs'")
    number, unit = float(match[1]), "epoch" if (match[2] or "").lower().startswith("e") else "step"
    if unit == "step" and not number.is_integer():
        raise UserError(name, duration, "must be a whole number of steps")
    return number, unit


def to_steps(name: str, duration: Duration, num_examples: int, batch_size: int) -> float:
    """A duration as optimiser steps, which need not be whole.

    Args:
        name: the field, for the error message.
        duration: steps or epochs.
        num_examples: examples of an epoch.
        batch_size: examples of a step.

    Returns:
        0 for a duration of zero, else at least 1.

    Raises:
        UserError: more than `MOST_STEPS`.
    """
    number, unit = _amount(name, duration)
    if number == 0:
        return 0.0
    steps = max(1.0, number * num_examples / batch_size if unit == "epoch" else number)
    if steps > MOST_STEPS:
        raise UserError(name, duration, f"must be at most {MOST_STEPS:,} steps")
    return steps


def describe_fields() -> str:
    """A plain-text table of all fields for `--help`."""
    lines = []
    for name, field in FIELDS.items():
        label = f"--config.{name}={field.default}"
        lines.append(f"  {label:<46} {field.meaning}")
    return "\n".join(lines)
