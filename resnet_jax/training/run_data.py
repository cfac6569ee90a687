"""The data set of a run, and the facts about it that data.json keeps."""

from collections.abc import Mapping, Sequence
from typing import Any

from resnet_jax.config import Config
from resnet_jax.data import cache
from resnet_jax.data.examples import Source
from resnet_jax.data.inputs import Inputs
from resnet_jax.data.on_device import OnDevice
from resnet_jax.data.sources import open_source
from resnet_jax.errors import UserError
from resnet_jax.training.data_changes import refuse_other_classes


def open_data(config: Config, facts: Mapping[str, Any] | None) -> Source:
    """The data set of a config, which has the classes and images of `facts` where they are given.

    Raises:
        UserError: no such data set, or it has other classes or images.
    """
    data = config.data
    source = open_source(data.name, data.data_dir, data.image_size)
    _check_num_classes(config, source)
    if facts is not None:
        refuse_other_classes(source.name, facts["class_names"], source.class_names)
        shape = cache.image_shape(source, data.image_size)
        _refuse_other_shape(source.name, facts["image_shape"], shape)
    return source


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


def data_facts(
    config: Config, source: Source, inputs: Inputs, eval_split: str, interpolation: str
) -> dict[str, Any]:
    """The content of data.json for a run with these inputs."""
    preprocessing = inputs.preprocessing
    facts = {
        "name": source.name,
        "train_split": config.data.train_split,
        "eval_split": eval_split,
        "train_examples": inputs.num_examples,
        "eval_examples": len(inputs.eval_examples),
        "class_names": list(source.class_names),
        "image_shape": list(cache.image_shape(source, config.data.image_size)),
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
        "interpolation": interpolation,
        "on_device": isinstance(inputs, OnDevice),
    }
    if inputs.measured is not None:
        facts["measured"] = dict(zip(("mean", "std"), map(list, inputs.measured), strict=True))
    return facts
