"""Config → Optax transformation and learning-rate schedule."""

from collections.abc import Callable

import jax
import optax

from resnet_jax.config import Config, Duration, OptimizerConfig, ScheduleConfig, to_steps
from resnet_jax.errors import UserError, choose
from resnet_jax.training.hyperparameters import is_absent
from resnet_jax.wording import first_few


def decay_mask(params) -> dict:
    """True for the weights of convolutions and linear layers, False for norms and biases.

    Goes by name and not by rank, so it also holds for parameters stacked over layers.
    """
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def _sgd(config: OptimizerConfig, rate: optax.Schedule, mask) -> optax.GradientTransformation:
    momentum = None if is_absent("optimizer.momentum", config.momentum) else config.momentum
    # Decay joins the gradient before momentum, as in the papers and in PyTorch.
    return optax.chain(
        optax.add_decayed_weights(config.weight_decay, mask),
        optax.sgd(rate, momentum, config.nesterov),
    )


def _adamw(config: OptimizerConfig, rate: optax.Schedule, mask) -> optax.GradientTransformation:
    return optax.adamw(
        rate,
        b1=config.momentum,
        b2=config.b2,
        eps=config.epsilon,
        weight_decay=config.weight_decay,
        mask=mask,
    )


def _layerwise_trust_ratio(trust_coefficient: float = 1.0) -> optax.GradientTransformation:
    """LARS's and LAMB's ratio of norms by layer; each of the blocks stacked in `scanned` is one."""
    ratio = optax.scale_by_trust_ratio(trust_coefficient=trust_coefficient)

    def scale(path, update, param):
        def one(update, param):
            return ratio.update(update, ratio.init(param), param)[0]

        stacked = any(key.key == "scanned" for key in path)
        return (jax.vmap(one) if stacked else one)(update, param)

    def update(updates, state, params):
        return jax.tree_util.tree_map_with_path(scale, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _lars(config: OptimizerConfig, rate: optax.Schedule, mask) -> optax.GradientTransformation:
    """You et al. 2017, "Large Batch Training of Convolutional Networks", §4.3; norms and biases alone."""
    return optax.chain(
        optax.add_decayed_weights(config.weight_decay, mask),
        optax.masked(_layerwise_trust_ratio(config.trust_coefficient), decay_mask),
        optax.scale_by_learning_rate(rate),
        optax.trace(config.momentum, config.nesterov),
    )


def _lamb(config: OptimizerConfig, rate: optax.Schedule, mask) -> optax.GradientTransformation:
    """You et al. 2020, "Large Batch Optimization for Deep Learning", algorithm 2.

    What does not decay has no trust ratio either, as in NVIDIA's and timm's LAMB.
    """
    ratio = _layerwise_trust_ratio()
    return optax.chain(
        optax.scale_by_adam(config.momentum, config.b2, config.epsilon),
        optax.add_decayed_weights(config.weight_decay, mask),
        ratio if mask is None else optax.masked(ratio, mask),
        optax.scale_by_learning_rate(rate),
    )


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": _sgd,
    "adamw": _adamw,
    "lars": _lars,
    "lamb": _lamb,
}


def _constant(config: ScheduleConfig, peak: float, boundaries: list[int], steps: int):
    return optax.constant_schedule(peak)


def _step(config: ScheduleConfig, peak: float, boundaries: list[int], steps: int):
    return optax.piecewise_constant_schedule(peak, dict.fromkeys(boundaries, config.factor))


def _cosine(config: ScheduleConfig, peak: float, boundaries: list[int], steps: int):
    return optax.cosine_decay_schedule(peak, steps, alpha=config.final_factor)


SCHEDULES = {"constant": _constant, "step": _step, "cosine": _cosine}


def make_schedule(config: Config, total_steps: int, num_examples: int) -> optax.Schedule:
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
    warmup, boundaries = _warmup_and_boundaries(config, num_examples)
    if warmup >= total_steps:
        raise UserError(
            "schedule.warmup",
            schedule.warmup,
            f"must be shorter than train.duration ({total_steps} steps), and is {warmup} steps",
            f"set e.g. --config.schedule.warmup={total_steps // 10}",
        )
    if boundaries != sorted(set(boundaries)) or any(b <= warmup for b in boundaries):
        raise UserError(
            "schedule.boundaries",
            schedule.boundaries,
            f"must rise and come after the warm-up, but are at {_steps(boundaries)}, the warm-up of {warmup} steps",
            "change them or schedule.warmup",
        )
    make = choose("schedule.name", schedule.name, SCHEDULES)
    main = make(schedule, peak, [b - warmup for b in boundaries], total_steps - warmup)
    if not warmup:
        return main
    rise = optax.linear_schedule(peak * schedule.warmup_start_factor, peak, warmup)
    return optax.join_schedules([rise, main], [warmup])


def schedule_warnings(config: Config, total_steps: int, num_examples: int) -> list[str]:
    """What is legal in a schedule and probably not meant, as of a recipe whose run was shortened.

    Args:
        config, total_steps, num_examples: as of `make_schedule`, which accepts them.
    """
    warmup, boundaries = _warmup_and_boundaries(config, num_examples)
    beyond = [b for b in boundaries if b >= total_steps]
    warnings = []
    if config.schedule.name == "step" and beyond:
        never = "never falls" if beyond == boundaries else "falls fewer times"
        # Where He et al. 2015 have theirs.
        halves = f"{max(1, total_steps // 2)}, {max(2, total_steps * 3 // 4)}"
        warnings.append(
            f"schedule.boundaries: {_steps(beyond)} is not before the end of the run (step {total_steps}), so the "
            f"learning rate {never}; set e.g. --config.schedule.boundaries='{halves}'"
        )
    if warmup > total_steps / 2:
        warnings.append(
            f"schedule.warmup: takes {warmup} of the {total_steps} steps of the run; set e.g. "
            f"--config.schedule.warmup={total_steps // 10}"
        )
    return warnings


def _warmup_and_boundaries(config: Config, num_examples: int) -> tuple[int, list[int]]:
    """Both in steps from the start of the run."""

    def steps(name: str, duration: Duration) -> int:
        return round(to_steps(name, duration, num_examples, config.train.batch_size))

    schedule = config.schedule
    boundaries = [steps("schedule.boundaries", b) for b in schedule.boundaries]
    return steps("schedule.warmup", schedule.warmup), boundaries


def _steps(boundaries: list[int]) -> str:
    return f"step {first_few(boundaries)}"


def make_optimizer(config: Config, schedule: optax.Schedule) -> optax.GradientTransformation:
    """The Optax transformation of a config; learning rates come from `schedule`.

    The numbers of the config may be traced (`hyperparameters.with_numbers`).

    Raises:
        UserError: no such optimiser.
    """
    mask = None if config.optimizer.decay_norm_and_bias else decay_mask
    make = choose("optimizer.name", config.optimizer.name, OPTIMIZERS)
    optimizer = make(config.optimizer, schedule, mask)
    if config.train.clip_gradient_norm is None:
        return optimizer
    return optax.chain(optax.clip_by_global_norm(config.train.clip_gradient_norm), optimizer)
