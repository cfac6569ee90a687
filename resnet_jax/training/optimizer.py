"""Config → Optax transformation and learning-rate schedule."""

from collections.abc import Callable
from functools import partial

import jax
import optax
from ml_collections import ConfigDict

from resnet_jax.config import to_steps
from resnet_jax.errors import UserError, choose


def decay_mask(params) -> dict:
    """True for the weights of convolutions and linear layers, False for norms and biases.

    Goes by name and not by rank, so it also holds for parameters stacked over layers.
    """
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def _sgd(config: ConfigDict, rate: optax.Schedule, mask) -> optax.GradientTransformation:
    # Decay joins the gradient before momentum, as in the papers and in PyTorch.
    return optax.chain(
        optax.add_decayed_weights(config.weight_decay, mask),
        optax.sgd(rate, config.momentum or None, config.nesterov),
    )


def _adam(
    make: Callable[..., optax.GradientTransformation],
    config: ConfigDict,
    rate: optax.Schedule,
    mask,
) -> optax.GradientTransformation:
    return make(
        rate,
        b1=config.momentum,
        b2=config.b2,
        eps=config.epsilon,
        weight_decay=config.weight_decay,
        mask=mask,
    )


def _lars(config: ConfigDict, rate: optax.Schedule, mask) -> optax.GradientTransformation:
    return optax.lars(
        rate,
        config.weight_decay,
        weight_decay_mask=True if mask is None else mask,
        trust_coefficient=config.trust_coefficient,
        trust_ratio_mask=decay_mask,
        momentum=config.momentum,
        nesterov=config.nesterov,
    )


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": _sgd,
    "adamw": partial(_adam, optax.adamw),
    "lars": _lars,
    "lamb": partial(_adam, optax.lamb),
}


def _constant(config: ConfigDict, peak: float, boundaries: list[int], steps: int):
    return optax.constant_schedule(peak)


def _step(config: ConfigDict, peak: float, boundaries: list[int], steps: int):
    return optax.piecewise_constant_schedule(peak, dict.fromkeys(boundaries, config.factor))


def _cosine(config: ConfigDict, peak: float, boundaries: list[int], steps: int):
    return optax.cosine_decay_schedule(peak, steps, alpha=config.final_factor)


SCHEDULES = {"constant": _constant, "step": _step, "cosine": _cosine}


def make_schedule(config: ConfigDict, total_steps: int, num_examples: int) -> optax.Schedule:
    """Learning rate by optimiser step.

    The peak is `optimizer.learning_rate`, times batch size over `reference_batch_size` where that
    is set (linear scaling rule, Goyal 2017, §2.1). It is reached by a linear warm-up (§2.2) and then
    stays (`constant`), is multiplied by `factor` at each boundary (`step`, counted from step 0), or
    falls on half a cosine to the end of the run (`cosine`).

    Args:
        config: the whole config.
        total_steps: of the run.
        num_examples: training examples, for durations in epochs.

    Raises:
        UserError: no such schedule, or a warm-up that is not shorter than the run.
    """
    batch_size, optimizer, schedule = config.train.batch_size, config.optimizer, config.schedule
    peak = optimizer.learning_rate * batch_size / (optimizer.reference_batch_size or batch_size)
    warmup = round(to_steps("schedule.warmup", schedule.warmup, num_examples, batch_size))
    if warmup >= total_steps:
        raise UserError(
            "schedule.warmup",
            schedule.warmup,
            f"must be shorter than train.duration ({total_steps} steps)",
        )
    boundaries = [
        round(to_steps("schedule.boundaries", b, num_examples, batch_size)) - warmup
        for b in schedule.boundaries
    ]
    if boundaries != sorted(set(boundaries)) or any(b <= 0 for b in boundaries):
        raise UserError(
            "schedule.boundaries", schedule.boundaries, "must rise and lie behind the warm-up"
        )
    make = choose("schedule.name", schedule.name, SCHEDULES)
    main = make(schedule, peak, boundaries, total_steps - warmup)
    if not warmup:
        return main
    rise = optax.linear_schedule(peak * schedule.warmup_start_factor, peak, warmup)
    return optax.join_schedules([rise, main], [warmup])


def make_optimizer(config: ConfigDict, schedule: optax.Schedule) -> optax.GradientTransformation:
    """The Optax transformation of a config; learning rates come from `schedule`.

    Raises:
        UserError: no such optimiser.
    """
    mask = None if config.optimizer.decay_norm_and_bias else decay_mask
    make = choose("optimizer.name", config.optimizer.name, OPTIMIZERS)
    optimizer = make(config.optimizer, schedule, mask)
    if config.train.clip_gradient_norm is None:
        return optimizer
    return optax.chain(optax.clip_by_global_norm(config.train.clip_gradient_norm), optimizer)
