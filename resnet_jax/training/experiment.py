"""From a config to everything that a run is made of, each part once.

Everything that a config can get wrong is found here, before anything is written or compiled.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from flax import nnx

from resnet_jax import models
from resnet_jax.config import Config, to_steps
from resnet_jax.data import cache
from resnet_jax.data.examples import Source
from resnet_jax.data.images import Geometry
from resnet_jax.data.inputs import Inputs, make_inputs
from resnet_jax.data.preprocessing import make_mixing
from resnet_jax.errors import UserError
from resnet_jax.training.hyperparameters import Hyperparameters, hyperparameters, program_key
from resnet_jax.training.interruption import end_with_parent
from resnet_jax.training.intervals import is_due, next_due
from resnet_jax.training.losses import Loss, make_loss
from resnet_jax.training.mesh import JitMesh
from resnet_jax.training.model import check_model, check_training, model_builder
from resnet_jax.training.optimizer import (
    Optimizer,
    make_optimizer,
    make_schedule,
    schedule_warnings,
)
from resnet_jax.training.parallel import Parallel, make_parallel
from resnet_jax.training.preparation import chosen, evaluated_image, stored
from resnet_jax.training.pretrained import Pretrained, read_pretrained
from resnet_jax.training.programs import Programs, means
from resnet_jax.training.replicas import PmapReplicas
from resnet_jax.training.run_data import data_facts, open_data
from resnet_jax.training.sinks import check_installed
from resnet_jax.training.state import (
    Network,
    TrainState,
    make_network,
    state_shapes,
    weights_of,
)
from resnet_jax.training.steps import Metrics


class Due(NamedTuple):
    """What is to be done between two steps."""

    log: bool
    evaluate: bool
    save: bool


@dataclass(frozen=True)
class Experiment:
    """The parts of a run.

    Attributes:
        config: all fields.
        source: the data set.
        inputs: its batches.
        network: the model.
        optimizer, loss: functions of the hyperparameters.
        schedule: learning rate by step.
        numbers: hyperparameters that are arguments of the compiled programs, on the host.
        parallel: the devices.
        programs: the compiled functions.
        total_steps: length of the run.
        evaluate_every, checkpoint_every, log_every: intervals in steps (`intervals.py`).
        facts: for data.json.
        parameters, macs: cost of the model; trainable ones only, and macs for one image.
        pretrained: weights to start from; None: fresh ones.
    """

    config: Config
    source: Source
    inputs: Inputs
    network: Network
    optimizer: Optimizer
    loss: Loss
    schedule: optax.Schedule
    numbers: Hyperparameters
    parallel: Parallel
    programs: Programs
    total_steps: int
    evaluate_every: float
    checkpoint_every: float
    log_every: float
    facts: dict[str, Any]
    parameters: int
    macs: int
    pretrained: Pretrained | None

    @property
    def num_examples(self) -> int:
        """Training examples of an epoch."""
        return self.inputs.num_examples

    @property
    def warnings(self) -> list[str]:
        """What is legal in the config and probably not meant, a line each."""
        warnings = schedule_warnings(self.config, self.total_steps, self.num_examples)
        batch_size = self.config.train.batch_size
        if batch_size > self.num_examples:
            warnings.append(
                f"train.batch_size: {batch_size} is more than the {self.num_examples} training examples, so a step has "
                "some of them several times"
            )
        return warnings

    def start(self, fresh: TrainState) -> TrainState:
        """The state at step 0: a fresh one, with pretrained weights where the config says so."""
        if self.config.model.init_from is not None and self.pretrained is None:
            raise AssertionError("made with starts=False: model.init_from was not read")
        return fresh if self.pretrained is None else self.pretrained.into(fresh, self.network)

    def state_shapes(self) -> TrainState:
        """Shapes, types and shardings of one copy of the state, without computing it."""
        averages = self.config.train.ema_decay is not None
        shapes = state_shapes(self.network, self.optimizer(self.numbers), averages)
        shardings = self.parallel.state_shardings(shapes)
        return jax.tree.map(lambda a, sharding: a.update(sharding=sharding), shapes, shardings)

    def train_arguments(self, step: int) -> tuple[Any, Any]:
        """Placed arguments of the training call that begins at `step`, after state and numbers."""
        return self.inputs.train_arguments(step, self.config.seed)

    def placed_numbers(self) -> Hyperparameters:
        """The hyperparameters, on the devices."""
        return self.parallel.replicate(self.numbers)

    def due(self, step: int) -> Due:
        """What is due after `step` steps; all of it at the end."""
        ended = step == self.total_steps
        intervals = self.log_every, self.evaluate_every, self.checkpoint_every
        return Due(*(ended or is_due(step, every) for every in intervals))

    def call_length(self, step: int) -> int:
        """Steps of the compiled call that begins at `step`: as the config says, or 1 where something is due before."""
        intervals = self.log_every, self.evaluate_every, self.checkpoint_every
        boundary = min(self.total_steps, *(next_due(step, every) for every in intervals))
        length = self.config.train.steps_per_call
        return length if step + length <= boundary else 1

    def result(self, metrics: Metrics) -> dict[str, Any]:
        """The result of an evaluation of the whole split.

        Args:
            metrics: metrics[batches], as `Programs.evaluate` returns them.

        Returns:
            `loss` (mean cross-entropy, nats), `accuracy` (0 to 1), `examples`, and `weights`: `averaged` or
            `raw`. Loss and accuracy are None where a loss or logit is not finite.
        """
        total = jax.tree.map(lambda m: np.sum(m, dtype=np.float64), metrics)
        count, expected = int(total["count"]), len(self.inputs.eval_examples)
        # Each process knows only the corrupt images that it read.
        least = expected - jax.process_count() * self.config.data.max_bad_examples
        if not least <= count <= expected:
            raise AssertionError(f"evaluated {count} of {expected} examples")
        found: dict[str, Any] = means(total)
        if not math.isfinite(found["loss"]):
            found = dict.fromkeys(found)
        return found | {"examples": count, "weights": weights_of(self.config)}

    def check_training(self) -> None:
        """Refuse a config that can be evaluated but not trained.

        Raises:
            UserError: names the field.
        """
        shape = tuple(self.facts["image_shape"])
        check_training(self.config, self.source.num_classes, shape, self.parallel)

    def of(self, config: Config) -> "Experiment":
        """The experiment of another config with the same programs; all other parts are shared.

        Raises:
            UserError: a schedule that does not fit.
        """
        if program_key(config) != program_key(self.config):
            raise ValueError("these configs cannot share programs")
        schedule = make_schedule(config, self.total_steps, self.num_examples)
        numbers = hyperparameters(config, schedule, self.total_steps)
        return replace(self, config=config, schedule=schedule, numbers=numbers)


def make_experiment(
    config: Config,
    eval_split: str | None = None,
    starts: bool = False,
    parallel: JitMesh | PmapReplicas | None = None,
    facts: Mapping[str, Any] | None = None,
    evaluates: bool = False,
) -> Experiment:
    """Build all parts of the run that a config describes.

    Args:
        config: validated (`config.load_config`, `config.override`).
        eval_split: evaluate this split instead of the config's.
        starts: the run has no checkpoint, so `model.init_from` is read.
        parallel: instead of what the config's `parallel` section says.
        facts: data.json of the run, which it was trained with; None: it starts.
        evaluates: nothing is trained.

    Raises:
        UserError: a choice that does not exist, fields that contradict each other or the data, or
            data with other classes than `facts`.
    """
    parallel = parallel or make_parallel(
        config.parallel.mode,
        config.parallel.batch_statistics,
        config.parallel.num_devices,
        config.parallel.fsdp,
    )
    if not evaluates:
        _check_batch_size(config, parallel)
        if config.log.tensorboard:
            check_installed()
    source = open_data(config, facts)
    shape = cache.image_shape(source, config.data.image_size)
    loss = make_loss(config.train)
    global_statistics = config.parallel.batch_statistics == "global"
    axis_name = parallel.axis_name if global_statistics else None
    build = model_builder(config, source.num_classes, shape[-1], axis_name)
    network = make_network(build)
    model = nnx.eval_shape(lambda: network.build(nnx.Rngs(0)))
    check_model(config, model, shape)
    reads = starts and config.model.init_from is not None
    pretrained = read_pretrained(config.model, network, source.class_names) if reads else None
    of_weights = pretrained.report.preprocessing if pretrained else None
    preparation = stored(facts) if facts else chosen(config, of_weights, shape[-1])
    image = evaluated_image(config, preparation.interpolation)
    network = replace(network, views=image.views)
    if eval_split is None:
        eval_split = facts["eval_split"] if facts else source.eval_split(config.data.eval_split)
    data, constants = config.data, preparation.constants
    of_training = Geometry(data.image_size, data.crop_fraction, preparation.interpolation)
    geometries = of_training, image.geometry
    inputs = make_inputs(
        config, source, parallel, eval_split, geometries, constants, evaluates, end_with_parent
    )
    examples = facts["train_examples"] if facts is not None else inputs.num_examples

    def steps(field: str) -> float:
        duration = attrgetter(field)(config)
        return to_steps(field, duration, examples, config.train.batch_size)

    total_steps = round(steps("train.duration"))
    schedule = make_schedule(config, total_steps, examples)
    optimizer = make_optimizer(config)
    numbers = hyperparameters(config, schedule, total_steps)
    return Experiment(
        config=config,
        source=source,
        inputs=inputs,
        network=network,
        optimizer=optimizer,
        loss=loss,
        schedule=schedule,
        numbers=numbers,
        parallel=parallel,
        programs=Programs(config, numbers, network, optimizer, loss, inputs, parallel),
        total_steps=total_steps,
        evaluate_every=steps("evaluate.every"),
        checkpoint_every=steps("checkpoint.every"),
        log_every=steps("log.every"),
        facts=data_facts(config, source, inputs, eval_split, preparation.interpolation),
        parameters=models.count_parameters(model),
        macs=models.count_macs(model, shape),
        pretrained=pretrained,
    )


def _check_batch_size(config: Config, parallel: Parallel) -> None:
    batch_size, parts = config.train.batch_size, config.train.accumulate_steps
    mixing = make_mixing(config)
    group = mixing.group if mixing else 1
    unit = parallel.num_devices * math.lcm(parts, group)
    if batch_size % unit:
        parted = f" times train.accumulate_steps {parts}" if parts > 1 else ""
        parted += f", and each device's share one of {group} to mix pairs" if mixing else ""
        nearest = {max(1, batch_size // unit) * unit, (batch_size // unit + 1) * unit}
        raise UserError(
            "train.batch_size",
            batch_size,
            f"must be a multiple of the {parallel.num_devices} devices{parted}",
            f"nearest: {' or '.join(map(str, sorted(nearest)))}; "
            "or use fewer devices by parallel.num_devices",
        )
