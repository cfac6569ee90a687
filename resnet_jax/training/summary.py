"""What the network of a config costs, without its data."""

import dataclasses
from typing import Any

from flax import nnx

from resnet_jax import models
from resnet_jax.config import Config
from resnet_jax.data import cache
from resnet_jax.data.sources import open_source
from resnet_jax.errors import UserError
from resnet_jax.training.model import check_model, model_builder


def summarize_config(config: Config) -> dict[str, Any]:
    """The parts of a config's network (`models.Part`) and their totals.

    Returns:
        `image_shape`, `parts` (a dict each), `parameters`, `macs`.

    Raises:
        UserError: the config is illegal, or its data set is not there and it does not say all that
            is needed.
    """
    num_classes, shape = _classes_and_shape(config)
    build = model_builder(config, num_classes, shape[-1])
    model = nnx.eval_shape(lambda: build(nnx.Rngs(0)))
    check_model(config, model, shape)
    parts = models.summarize(model, shape)
    return {
        "image_shape": list(shape),
        "parts": [dataclasses.asdict(part) for part in parts],
        "parameters": sum(part.parameters for part in parts),
        "macs": sum(part.macs for part in parts),
    }


def _classes_and_shape(config: Config) -> tuple[int, tuple[int, int, int]]:
    data, num_classes, size = config.data, config.model.num_classes, config.data.image_size
    if num_classes is not None and size is not None:
        return num_classes, (size, size, 3)
    try:
        source = open_source(data.name, data.data_dir, size)
    except UserError as error:
        fix = "without it, give --config.model.num_classes and --config.data.image_size"
        raise UserError("data.name", data.name, f"{error.problem}; {error.fix}", fix) from error
    return num_classes or source.num_classes, cache.image_shape(source, size)
