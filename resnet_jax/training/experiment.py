"""From a config to the parts of a run. Everything that a config can get wrong is found here,
before anything is written or compiled."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

import jax
import optax
from flax import nnx

from resnet_jax import models
from resnet_jax.config import Config, to_steps
from resnet_jax.data import cache
from resnet_jax.data.examples import Source
from resnet_jax.data.preprocessing import make_mixing
from resnet_jax.data.sources import open_source
from resnet_jax.errors import UserError
from resnet_jax.training.data_changes import refuse_other_classes
from resnet_jax.training.hyperparameters import hyperparameters, program_key
from resnet_jax.training.inputs import DeviceInputs, Inputs, make_inputs
from resnet_jax.training.losses import make_loss
from resnet_jax.training.model import check_model, check_training, model_builder
from resnet_jax.training.optimizer import make_optimizer, make_schedule, schedule_warnings
from resnet_jax.training.parallel import Parallel, make_parallel
from resnet_jax.training.preparation import chosen, evaluated_image, stored
from resnet_jax.training.pretrained import Pretrained, read_pretrained
from resnet_jax.training.state import Network, TrainState, make_network, state_shapes
from resnet_jax.training.tensorboard import check_installed


@dataclass(frozen=True)
class Experiment:
    """The parts of a run.

    Attributes:
        config: all fields.
        source: the data set.
        inputs: its batches.
        network: the model.
        optimizer, schedule: Optax transformation and learning rate by step.
        numbers: hyperparameters that are arguments of the compiled programs, on the host.
        parallel: the devices.
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
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    numbers: dict[str, Any]
    parallel: Parallel
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
        return self.inputs.data.num_examples

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
        shapes = state_shapes(self.network, self.optimizer, averages)
        shardings = self.parallel.state_shardings(shapes)
        return jax.tree.map(lambda a, sharding: a.update(sharding=sharding), shapes, shardings)

    def check_training(self) -> None:
        """Refuse a config that can be evaluated but not trained.

        Raises:
            UserError: names the field.
        """
        shape = tuple(self.facts["image_shape"])
        check_training(self.config, self.source.num_classes, shape, self.parallel)

    def of(self, config: Config) -> "Experiment":
        """The experiment of another config with the same programs; its parts are shared.

        Raises:
            UserError: a schedule that does not fit.
        """
        if program_key(config) != program_key(self.config):
            raise ValueError("these configs need programs of their own")
        schedule = make_schedule(config, self.total_steps, self.num_examples)
        numbers = hyperparameters(config, schedule, self.total_steps)
        return replace(self, config=config, schedule=schedule, numbers=numbers)


def make_experiment(
    config: Config,
    eval_split: str | None = None,
    starts: bool = False,
    parallel: Parallel | None = None,
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
    source = _open_data(config, facts)
    shape = cache.image_shape(source, config.data.image_size)
    make_loss(config.train)
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
    inputs = make_inputs(config, source, parallel, eval_split, preparation, evaluates)
    examples = facts["train_examples"] if facts is not None else inputs.data.num_examples

    def steps(field: str) -> float:
        duration = attrgetter(field)(config)
        return to_steps(field, duration, examples, config.train.batch_size)

    total_steps = round(steps("train.duration"))
    schedule = make_schedule(config, total_steps, examples)
    return Experiment(
        config=config,
        source=source,
        inputs=inputs,
        network=network,
        optimizer=make_optimizer(config, schedule),
        schedule=schedule,
        numbers=hyperparameters(config, schedule, total_steps),
        parallel=parallel,
        total_steps=total_steps,
        evaluate_every=steps("evaluate.every"),
        checkpoint_every=steps("checkpoint.every"),
        log_every=steps("log.every"),
        facts=_facts(config, source, inputs, eval_split, preparation.interpolation),
        parameters=models.count_parameters(model),
        macs=models.count_macs(model, shape),
        pretrained=pretrained,
    )


def _open_data(config: Config, facts: Mapping[str, Any] | None) -> Source:
    """The data set of a config, which has the classes and images of `facts` where they are given."""
    data = config.data
    source = open_source(data.name, data.data_dir, data.image_size)
    _check_num_classes(config, source)
    if facts is not None:
        refuse_other_classes(source.name, facts["class_names"], source.class_names)
        shape = cache.image_shape(source, data.image_size)
        _refuse_other_shape(source.name, facts["image_shape"], shape)
    return source


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


def _check_num_classes(config: Config, source: Source) -> None:
    if config.model.num_classes not in (None, source.num_classes):
        raise UserError(
            "model.num_classes",
            config.model.num_classes,
            f"{source.name} has {source.num_classes} classes",
            "leave it at None",
        )


def _refuse_other_shape(name: str, before: Sequence[int], now: Sequence[int]) -> None:
    if list(before) != list(now):
        shapes = ["×".join(map(str, shape)) for shape in (now, before)]
        problem = f"has images of {shapes[0]}, and the network was trained on {shapes[1]}"
        raise UserError("data.name", name, problem, "give images like those of the training")


def _facts(
    config: Config, source: Source, inputs: Inputs, eval_split: str, interpolation: str
) -> dict[str, Any]:
    preprocessing = inputs.preprocessing
    facts = {
        "name": source.name,
        "train_split": config.data.train_split,
        "eval_split": eval_split,
        "train_examples": inputs.data.num_examples,
        "eval_examples": len(inputs.eval_examples),
        "class_names": list(source.class_names),
        "image_shape": list(cache.image_shape(source, config.data.image_size)),
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
        "interpolation": interpolation,
        "on_device": isinstance(inputs, DeviceInputs),
    }
    if inputs.measured is not None:
        facts["measured"] = dict(zip(("mean", "std"), map(list, inputs.measured), strict=True))
    return facts
