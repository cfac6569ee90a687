"""One training step and one evaluation step, as pure functions.

They know nothing of devices beyond an optional axis name. Metrics are sums and counts, so that
devices, masks, hosts and parts of a batch add up exactly: `loss` (sum over examples; NaN where a
logit is not finite), `correct`, `count`. Where labels are mixed, the one with the larger share is the
correct one.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from jax import lax

from resnet_jax.training.hyperparameters import Hyperparameters
from resnet_jax.training.losses import Batch, Loss, cross_entropy, or_nan, softmax_loss
from resnet_jax.training.optimizer import Optimizer
from resnet_jax.training.state import Arrays, Network, TrainState, joined

Metrics = dict[str, jax.Array]


def _metrics(logits: jax.Array, losses: jax.Array, batch: Batch) -> Metrics:
    mask, label = batch["mask"], batch["label"]
    if "weight" in batch:
        label = jnp.where(batch["weight"] > 0.5, batch["other_label"], label)
    correct = (logits.argmax(-1) == label) & mask
    return {
        "loss": jnp.sum(jnp.where(mask, or_nan(losses, logits), 0)),
        "correct": jnp.sum(correct, dtype=jnp.int32),
        "count": jnp.sum(mask, dtype=jnp.int32),
    }


@dataclass(frozen=True)
class StepOptions:
    """What a step does in addition to forward, backward and update.

    Attributes:
        loss: of each example, minimised; metrics of training report it.
        accumulate_steps: parts that a batch is processed in, in turn, to save memory. The gradient is
            their mean; batch statistics are taken of each part.
        ema_warmup: let their decay begin low, see `averaging_rate`.
        ema_every: steps between their updates.
        axis_name: mapped axis over which gradients and metrics are combined; None under jit.
        gather: puts sharded weights together for the network.
    """

    loss: Loss = lambda logits, batch, numbers: softmax_loss(logits, batch)
    accumulate_steps: int = 1
    ema_warmup: bool = False
    ema_every: int = 1
    axis_name: str | None = None
    gather: Callable[[Arrays], Arrays] = lambda weights: weights


def train_step(
    state: TrainState,
    batch: Batch,
    numbers: Hyperparameters,
    network: Network,
    optimizer: Optimizer,
    options: StepOptions,
) -> tuple[TrainState, Metrics]:
    """One optimiser step.

    Args:
        state: before the step.
        batch: `image` float32[batch, height, width, channels], `label` int32[batch], `mask`
            bool[batch], `key` key[batch] (of dropout and stochastic depth); where labels are mixed,
            `other_label` int32[batch] and its share, `weight` float32[batch].
        numbers: of the run.
        network, optimizer, options: static.

    Returns:
        The state after it, and the metrics of the batch before it.
    """
    gradient, batch_stats, metrics = _gradient(state, batch, numbers, network, options)
    if options.axis_name is not None:
        gradient = lax.pmean(gradient, options.axis_name)
        # Running statistics may differ where batch statistics are per device; replicas stay equal.
        # The mean is taken of their changes, so that what does not change stays exactly equal.
        changes = jax.tree.map(jnp.subtract, batch_stats, state.batch_stats)
        changes = lax.pmean(changes, options.axis_name)
        batch_stats = jax.tree.map(jnp.add, state.batch_stats, changes)
        metrics = lax.psum(metrics, options.axis_name)
    trained, frozen = network.separate(state.params)
    updates, opt_state = optimizer(numbers).update(gradient, state.opt_state, trained)
    params = joined(optax.apply_updates(trained, updates), frozen)
    ema, decay = state.ema, numbers.get("train.ema_decay")
    if decay is not None:
        new = {"params": params, "batch_stats": batch_stats}
        step_size = averaging_rate(state.step, decay, options.ema_warmup, options.ema_every)
        # In this form the average of what does not change, a frozen part, is exactly that.
        ema = jax.tree.map(lambda old, new: old + step_size * (new - old), state.ema, new)
    return TrainState(state.step + 1, params, batch_stats, opt_state, ema), metrics


def averaging_rate(
    step: jax.Array, decay: float | jax.Array, warmup: bool = False, every: int = 1
) -> float | jax.Array:
    """How far averaged weights move towards the new ones: 1 - decay, or 0 between updates.

    Args:
        step: int32 scalar, steps done before this one.
        decay: per update.
        warmup: take (1 + t) / (10 + t) where it is lower, t updates done (TensorFlow's
            `ExponentialMovingAverage`), so that early weights are soon forgotten.
        every: steps between updates.
    """
    if warmup:
        updates = jnp.float32(step // every)
        decay = jnp.minimum(decay, (1 + updates) / (10 + updates))
    if every == 1:
        return 1 - decay
    return jnp.where((step + 1) % every == 0, 1 - decay, 0.0)


def _gradient(
    state: TrainState,
    batch: Batch,
    numbers: Hyperparameters,
    network: Network,
    options: StepOptions,
) -> tuple[Arrays, Arrays, Metrics]:
    """Gradient of the mean loss by what trains, new running statistics and metrics."""
    weights, frozen = network.separate(options.gather(state.params))

    def of_part(batch_stats: Arrays, part: Batch) -> tuple[Arrays, Arrays, Metrics]:
        def loss(trained: Arrays):
            params = joined(trained, frozen)
            logits, new_stats = network.train(params, batch_stats, part["image"], part["key"])
            losses = options.loss(logits, part, numbers)
            return losses.mean(), (new_stats, _metrics(logits, losses, part))

        gradient, (new_stats, metrics) = jax.grad(loss, has_aux=True)(weights)
        return gradient, new_stats, metrics

    if options.accumulate_steps == 1:
        return of_part(state.batch_stats, batch)

    def accumulate(carry, part: Batch):
        batch_stats, total = carry
        gradient, batch_stats, metrics = of_part(batch_stats, part)
        return (batch_stats, jax.tree.map(jnp.add, total, gradient)), metrics

    count = options.accumulate_steps
    # Parts are taken with a stride, so that each device keeps its own examples.
    parts = jax.tree.map(lambda a: a.reshape(-1, count, *a.shape[1:]).swapaxes(0, 1), batch)
    start = (state.batch_stats, jax.tree.map(jnp.zeros_like, network.separate(state.params)[0]))
    (batch_stats, total), metrics = lax.scan(accumulate, start, parts)
    gradient = jax.tree.map(lambda g: g / count, total)
    return gradient, batch_stats, jax.tree.map(lambda m: m.sum(0), metrics)


def eval_step(
    weights: Arrays, batch: Batch, network: Network, options: StepOptions | None = None
) -> Metrics:
    """Metrics of one batch by running statistics; examples with a False `mask` do not count.

    Args:
        weights: `{"params", "batch_stats"}`.
        batch: as of `train_step`, without `key`.
        network: static.
        options: of the training; metrics are summed over its axis.
    """
    options = options or StepOptions()
    weights = options.gather(weights)
    logits = network.evaluate(weights["params"], weights["batch_stats"], batch["image"])
    metrics = _metrics(logits, cross_entropy(logits, batch["label"]), batch)
    return metrics if options.axis_name is None else lax.psum(metrics, options.axis_name)
