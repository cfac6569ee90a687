"""The compiled functions of an experiment; runs that differ only in their hyperparameters share them."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jax import lax

from resnet_jax.config import Config
from resnet_jax.data.inputs import Inputs
from resnet_jax.training.hyperparameters import Hyperparameters
from resnet_jax.training.losses import Loss
from resnet_jax.training.optimizer import Optimizer
from resnet_jax.training.parallel import Parallel
from resnet_jax.training.state import Arrays, Network, TrainState, compile_initialisation
from resnet_jax.training.steps import Metrics, StepOptions, eval_step, train_step

CALLS_AHEAD = 3


@dataclass
class Programs:
    """Compiles each function when it is first called.

    Attributes:
        config: of one of the runs.
        numbers: its hyperparameters.
        network, optimizer, loss, inputs, parallel: what the functions are made of.
    """

    config: Config
    numbers: Hyperparameters
    network: Network
    optimizer: Optimizer
    loss: Loss
    inputs: Inputs
    parallel: Parallel
    _training: dict[int, Any] = field(default_factory=dict, init=False)

    @cached_property
    def initialise(self) -> Callable[[jax.Array], TrainState]:
        """From the key of a run to its state at step 0, on the first device."""
        averages = self.config.train.ema_decay is not None
        return compile_initialisation(self.network, self.optimizer(self.numbers), averages)

    @cached_property
    def _options(self) -> StepOptions:
        train = self.config.train
        return StepOptions(
            loss=self.loss,
            accumulate_steps=train.accumulate_steps,
            ema_warmup=train.ema_warmup,
            ema_every=train.ema_every,
            axis_name=self.parallel.axis_name,
            gather=self.parallel.gather,
        )

    def training(self, length: int) -> Any:
        """`length` steps as one call: (state, numbers, per_run, common) → (state, metrics[length])."""
        if length not in self._training:
            self._training[length] = self._compile_training(length)
        return self._training[length]

    def _compile_training(self, length: int) -> Any:
        def call(state: TrainState, numbers: Hyperparameters, *arguments: Any) -> Any:
            def one_step(state: TrainState, _: None) -> tuple[TrainState, Metrics]:
                batch = self.inputs.train_batch(arguments, state.step, numbers.key)
                static = self._network(numbers), self.optimizer, self._options
                return train_step(state, batch, numbers, *static)

            if length == 1:
                state, metrics = one_step(state, None)
                return state, jax.tree.map(lambda m: m[None], metrics)
            return lax.scan(one_step, state, length=length)

        return self.parallel.compile(call, self.inputs.placement, returns_state=True)

    @cached_property
    def _evaluation(self) -> Any:
        def one_batch(weights: Arrays, numbers: Hyperparameters, *arguments: Any) -> Metrics:
            batch = self.inputs.eval_batch(arguments)
            return eval_step(weights, batch, self._network(numbers), self._options)

        return self.parallel.compile(one_batch, self.inputs.placement)

    def _network(self, numbers: Hyperparameters) -> Network:
        return replace(self.network, survival=numbers.get("model.survival_probability"))

    def evaluate(
        self,
        state: TrainState,
        numbers: Hyperparameters,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> Metrics | None:
        """Evaluate a placed state on the whole evaluation split.

        Args:
            state, numbers: placed.
            is_stopped: asked before each batch; whether to leave the evaluation.

        Returns:
            metrics[batches], as NumPy arrays; None: it was left.
        """
        weights = state.evaluated()
        batches: list[Any] = []
        for arguments in self.inputs.eval_batches():
            if is_stopped():
                return None
            batches.append(self._evaluation(weights, numbers, *arguments))
            # A few calls ahead keep the device busy; more would hold their batches in its memory.
            jax.block_until_ready(batches[-CALLS_AHEAD:][0])
        read = [self.parallel.read(metrics) for metrics in batches]
        return jax.tree.map(lambda *m: np.stack(m), *read)


def means(totals: dict[str, Any]) -> dict[str, float]:
    """`loss` and `accuracy` of summed metrics."""
    count = float(totals["count"])
    return {
        "loss": float(totals["loss"]) / count,
        "accuracy": float(totals["correct"]) / count,
    }
