"""Fields by name: what other trainers call a field, and which one a wrong name means."""

from resnet_jax.config.fields import Field
from resnet_jax.config.schema import FIELDS
from resnet_jax.errors import UserError, letters_of, most_like
from resnet_jax.wording import first_few

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


def find_field(name: str) -> Field:
    """The field of a dotted name.

    Raises:
        UserError: there is none; names the one that is probably meant.
    """
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
        # Whoever writes `epochs` must not get that number of steps.
        how = ", e.g. '64000 steps' or '90 epochs'" if FIELDS[meant].kind == "duration" else ""
        hint = f"did you mean {meant!r}{how}?"
    raise UserError("--config", name, "no such config field", hint)


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
