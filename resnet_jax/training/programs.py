"""The compiled programs of an experiment; runs that differ only in their numbers share them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from resnet_jax.training.experiment import Experiment
from resnet_jax.training.hyperparameters import key_of, with_numbers
from resnet_jax.training.losses import make_loss
from resnet_jax.training.optimizer import make_optimizer
from resnet_jax.training.state import (
    Arrays,
    Network,
    TrainState,
    compile_initialisation,
    weights_of,
)
from resnet_jax.training.steps import Metrics, StepOptions, eval_step, train_step

CALLS_AHEAD = 3
Numbers = dict[str, jax.Array]


class Programs:
    """Compiles each program of an experiment when it is first called.

    Args:
        experiment: whose network, inputs and devices the programs are for.
    """

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self._training: dict[int, Any] = {}

    @cached_property
    def initialise(self) -> Callable[[jax.Array], TrainState]:
        """From the key of a run to its state at step 0, on the first device."""
        e = self.experiment
        return compile_initialisation(e.network, e.optimizer, e.config.train.ema_decay is not None)

    def training(self, length: int) -> Any:
        """`length` steps as one call: (state, numbers, own, shared) → (state, metrics[length])."""
        if length not in self._training:
            self._training[length] = self._compile_training(length)
        return self._training[length]

    def _compile_training(self, length: int) -> Any:
        e = self.experiment

        def call(state: TrainState, numbers: Numbers, own: Any, shared: Any):
            config, options = self._options(numbers)
            optimizer = make_optimizer(config, _rate_by_step(numbers))

            def one_step(state: TrainState, _: None):
                batch = e.inputs.train_batch(state.step, key_of(numbers), own, shared)
                return train_step(state, batch, self._network(numbers), optimizer, options)

            if length == 1:
                state, metrics = one_step(state, None)
                return state, jax.tree.map(lambda m: m[None], metrics)
            return lax.scan(one_step, state, length=length)

        return e.parallel.compile(call, e.inputs.placement, returns_state=True)

    @cached_property
    def _evaluation(self) -> Any:
        e = self.experiment

        def one_batch(weights: Arrays, numbers: Numbers, own: Any, shared: Any) -> Metrics:
            _, options = self._options(numbers)
            batch = e.inputs.eval_batch(own, shared)
            return eval_step(weights, batch, self._network(numbers), options)

        return e.parallel.compile(one_batch, e.inputs.placement)

    def _network(self, numbers: Numbers) -> Network:
        survival = numbers.get("model.survival_probability")
        return replace(self.experiment.network, survival=survival)

    def _options(self, numbers: Numbers) -> tuple[Any, StepOptions]:
        config = with_numbers(self.experiment.config, numbers)
        return config, StepOptions(
            loss=make_loss(config.train),
            accumulate_steps=config.train.accumulate_steps,
            ema_decay=config.train.ema_decay,
            ema_warmup=config.train.ema_warmup,
            ema_every=config.train.ema_every,
            axis_name=self.experiment.parallel.axis_name,
            gather=self.experiment.parallel.gather,
        )

    def evaluate(
        self,
        state: TrainState,
        numbers: Numbers,
        before_batch: Callable[[], None] = lambda: None,
    ) -> list[dict[str, Any]]:
        """Evaluate placed states on the whole evaluation split.

        Args:
            state: of the runs.
            numbers: their hyperparameters.
            before_batch: called before each; what it raises ends the evaluation.

        Returns:
            For each run `loss` (mean cross-entropy, nats), `accuracy` (0 to 1), `examples`, and
            `weights`: `averaged` or `raw`. Loss and accuracy are None where a loss or logit is not finite.
        """
        e = self.experiment
        weights = state.evaluated()
        batches: list[Any] = []
        for own, shared in e.inputs.evaluation():
            before_batch()
            batches.append(self._evaluation(weights, numbers, own, shared))
            # A few calls ahead keep the device busy; more would hold their batches in its memory.
            jax.block_until_ready(batches[-CALLS_AHEAD:][0])
        by_run = zip(*(e.parallel.read(metrics) for metrics in batches), strict=True)
        return [self._result(metrics) for metrics in by_run]

    def _result(self, batches: Sequence[Metrics]) -> dict[str, Any]:
        total = jax.tree.map(lambda *m: np.sum(m, dtype=np.float64), *batches)
        count, expected = int(total["count"]), len(self.experiment.inputs.eval_examples)
        # Each process knows of its own damaged images alone.
        least = expected - jax.process_count() * self.experiment.config.data.max_bad_examples
        if not least <= count <= expected:
            raise AssertionError(f"evaluated {count} of {expected} examples")
        found: dict[str, Any] = means(total)
        if not math.isfinite(found["loss"]):
            found = dict.fromkeys(found)
        return found | {"examples": count, "weights": weights_of(self.experiment.config)}


def means(totals: dict[str, Any]) -> dict[str, float]:
    """`loss` and `accuracy` of summed metrics."""
    count = float(totals["count"])
    return {
        "loss": float(totals["loss"]) / count,
        "accuracy": float(totals["correct"]) / count,
    }


def _rate_by_step(numbers: Numbers) -> optax.Schedule:
    return lambda step: jnp.asarray(numbers["learning_rates"])[step]
