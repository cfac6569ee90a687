"""Fields by name: what other trainers call a field, and which one a wrong name means."""

from resnet_jax.config.fields import Field
from resnet_jax.config.schema import FIELDS
from resnet_jax.errors import UserError, letters_of, most_like
from resnet_jax.wording import first_few

# What other trainers call a field whose name here is not like theirs.
_OTHER_NAMES = {
    "seed": "random_seed",
    "model.dtype": "amp fp16 mixed_precision precision",
    "model.family": "arch architecture",
    "model.survival_probability": "drop_path",
    "model.depth": "layers resnet_depth",
    "model.init_from": "pretrained weights",
    "data.crop_fraction": "crop_pct",
    "data.name": "dataset",
    "data.image_size": "resolution",
    "data.num_threads": "workers num_workers",
    "train.accumulate_steps": "accum",
    "train.batch_size": "batch bs",
    "train.loss": "criterion",
    "train.duration": "epochs iterations max_epochs max_steps num_epochs num_steps steps total_steps",
    "train.clip_gradient_norm": "grad_clip max_grad_norm",
    "optimizer.momentum": "beta1",
    "optimizer.b2": "beta2",
    "optimizer.learning_rate": "lr",
    "optimizer.name": "opt optim",
    "optimizer.weight_decay": "wd",
    "schedule.factor": "gamma",
    "schedule.name": "lr_scheduler scheduler",
    "schedule.boundaries": "milestones",
    "schedule.warmup": "warmup_epochs warmup_steps",
    "checkpoint.every": "save_every",
    "parallel.num_devices": "gpus num_gpus",
}
OTHER_NAMES = {other: field for field, names in _OTHER_NAMES.items() for other in names.split()}


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
