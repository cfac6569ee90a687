"""All sections of a config, and the table of their fields.

A section declares each field once: annotation (kind, and whether `None` is legal), default, meaning
with its unit, rule, and marks (`fields.Field`). Everything else derives from `FIELDS`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from resnet_jax.config.data import DataConfig
from resnet_jax.config.fields import Duration, Section, Traced, declared_fields, setting
from resnet_jax.config.model import ModelConfig
from resnet_jax.config.rules import (
    FRACTION,
    LARGEST_SIDE,
    NON_NEGATIVE,
    POSITIVE,
    SHARE,
    up_to,
)


@dataclass(frozen=True)
class TrainConfig(Section):
    """Length, batches and loss of training."""

    duration: Duration = setting("10 epochs", "length of the training", POSITIVE)
    batch_size: int = setting(128, "images per optimiser step, over all devices", up_to(10**7))
    loss: str = setting(
        "cross_entropy",
        "cross_entropy, or binary_cross_entropy of each class; evaluation has cross_entropy",
    )
    label_smoothing: float = setting(
        0.0, "share of the target spread evenly", FRACTION, traced=Traced(off=0.0)
    )
    target_threshold: float | None = setting(
        None,
        "binary_cross_entropy: targets above it are 1, others 0; None: as they are",
        FRACTION,
    )
    mixup: float = setting(0.0, "α of mixup; 0: none", NON_NEGATIVE)
    cutmix: float = setting(
        0.0, "α of cutmix; 0: none; with mixup, each image has one", NON_NEGATIVE
    )
    clip_gradient_norm: float | None = setting(
        None,
        "largest global norm of the gradient; None: no clipping",
        POSITIVE,
        traced=Traced(off=None),
    )
    ema_decay: float | None = setting(
        None,
        "decay per update of averaged weights, which are then evaluated; None: off",
        FRACTION,
        traced=Traced(off=None),
    )
    ema_warmup: bool = setting(
        False, "let the decay begin at 0.1 and rise: (1 + t) / (10 + t), t updates"
    )
    ema_every: int = setting(1, "steps between updates of averaged weights", POSITIVE)
    accumulate_steps: int = setting(1, "parts a batch is processed in, in turn", up_to(10**6))
    steps_per_call: int = setting(1, "steps in one compiled call", up_to(10**6), runtime_only=True)


@dataclass(frozen=True)
class OptimizerConfig(Section):
    """How a gradient becomes an update."""

    name: str = setting("sgd", "sgd, adamw, lars or lamb")
    learning_rate: float = setting(0.1, "peak learning rate", POSITIVE, in_rates=True)
    reference_batch_size: int | None = setting(
        None,
        "learning rate is for this batch size and scales with batch_size; None: as is",
        POSITIVE,
        in_rates=True,
    )
    momentum: float = setting(
        0.9, "of sgd and lars; b1 of adamw and lamb", FRACTION, traced=Traced(off=0.0)
    )
    nesterov: bool = setting(False, "Nesterov momentum (sgd and lars)")
    b2: float = setting(
        0.999, "decay of squared gradients (adamw, lamb)", FRACTION, traced=Traced()
    )
    epsilon: float = setting(
        1e-8, "added to the root of squared gradients", POSITIVE, traced=Traced()
    )
    trust_coefficient: float = setting(0.001, "of lars", POSITIVE, traced=Traced())
    weight_decay: float = setting(
        1e-4, "coefficient of w in the update", NON_NEGATIVE, traced=Traced()
    )
    decay_norm_and_bias: bool = setting(True, "decay norm scales and biases too")


@dataclass(frozen=True)
class ScheduleConfig(Section):
    """The learning rate by step."""

    name: str = setting("step", "step, cosine or constant", in_rates=True)
    warmup: Duration = setting(0, "linear warm-up", NON_NEGATIVE, in_rates=True)
    warmup_start_factor: float = setting(
        0.0, "learning rate at step 0, as a share of the peak", FRACTION, in_rates=True
    )
    boundaries: tuple[Duration, ...] = setting(
        (), "when `step` multiplies the rate by `factor`", POSITIVE, in_rates=True
    )
    factor: float = setting(0.1, "of the `step` schedule", POSITIVE, in_rates=True)
    final_factor: float = setting(
        0.0, "where `cosine` ends, as a share of the peak", NON_NEGATIVE, in_rates=True
    )


@dataclass(frozen=True)
class EvaluateConfig(Section):
    """When and how images are evaluated."""

    every: Duration = setting("1 epoch", "interval of evaluations; the end is always one", POSITIVE)
    batch_size: int = setting(
        500,
        "images per call, rounded up to a multiple of the devices",
        up_to(10**7),
        runtime_only=True,
    )
    scales: tuple[int, ...] = setting(
        (),
        "shorter sides in pixels that each image is resized to; logits are averaged; (): as is",
        up_to(LARGEST_SIDE),
        protocol=True,
    )
    image_size: int | None = setting(
        None,
        "height and width in pixels; None: data.image_size, or where that is set the largest of "
        "evaluate.scales",
        up_to(LARGEST_SIDE),
        protocol=True,
    )
    crop_fraction: float | None = setting(
        None,
        "share of the shorter side that crops keep; None: data.crop_fraction",
        SHARE,
        protocol=True,
    )
    crops: int = setting(
        1,
        "1, or 10: corners and centre, also mirrored; logits are averaged",
        ("1 or 10", lambda v: v in (1, 10)),
        protocol=True,
    )


@dataclass(frozen=True)
class CheckpointConfig(Section):
    """When the state is saved, and what is kept."""

    every: Duration = setting("1 epoch", "interval of checkpoints; the end is always one", POSITIVE)
    keep_last: int = setting(2, "newest checkpoints kept", POSITIVE, runtime_only=True)
    keep_best: int = setting(1, "checkpoints kept by accuracy", NON_NEGATIVE, runtime_only=True)


@dataclass(frozen=True)
class LogConfig(Section):
    """What is logged, and when."""

    every: Duration = setting(50, "interval of train lines in metrics.jsonl", POSITIVE)
    tensorboard: bool = setting(False, "also write TensorBoard events", runtime_only=True)


@dataclass(frozen=True)
class ParallelConfig(Section):
    """The devices of a run."""

    mode: str = setting(
        "jit", "jit (one program over a mesh) or pmap (a replica per device)", runtime_only=True
    )
    batch_statistics: str = setting(
        "global", "global: over the whole batch; per_device (pmap): over a device's share"
    )
    num_devices: int | None = setting(
        None, "devices to use, as many of each process; None: all", POSITIVE, runtime_only=True
    )
    fsdp: int = setting(
        1,
        "devices over which parameters, optimiser state and averages are sharded (jit)",
        POSITIVE,
        runtime_only=True,
    )


@dataclass(frozen=True)
class Config(Section):
    """A whole config; `Config()` has all defaults."""

    seed: int = setting(
        0,
        "seed of initialisation, order, augmentation and dropout",
        ("from 0 to 4294967295", lambda v: 0 <= v < 2**32),
    )
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()
    parallel: ParallelConfig = ParallelConfig()


FIELDS = dict(declared_fields(Config))


def with_fields(config: Config, values: Mapping[str, Any]) -> Config:
    """A copy with dotted fields replaced. The values are not checked, unlike in `override`."""
    parts: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        section, _, last = name.rpartition(".")
        parts.setdefault(section, {})[last] = value
    top = parts.pop("", {})
    changed = {name: replace(getattr(config, name), **part) for name, part in parts.items()}
    return replace(config, **top, **changed)


def describe_fields() -> str:
    """A plain-text table of all fields for `--help`."""
    lines = []
    for name, field in FIELDS.items():
        steps = field.kind == "duration" and isinstance(field.default, int) and field.default > 0
        label = f"--config.{name}={field.default}{' steps' if steps else ''}"
        lines.append(f"  {label:<46} {field.meaning}")
    return "\n".join(lines)
