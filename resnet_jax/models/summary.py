"""What each part of a network puts out, costs and sees."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from resnet_jax.models.cost import count_macs, count_parameters
from resnet_jax.models.modes import evaluation_view
from resnet_jax.models.resnet import ResNet


@dataclass(frozen=True)
class Part:
    """One row of a summary.

    Attributes:
        name: `stem`, `stage1`, …, `head` (with the norm before it).
        blocks: residual blocks in it.
        output_shape: for one image, (height, width, channels) or (classes,).
        parameters: trainable ones.
        macs: multiply-accumulate operations for one image, as `count_macs` counts them.
        receptive_field: side of the square of the image that one output sees, in pixels, borders
            aside.
    """

    name: str
    blocks: int
    output_shape: tuple[int, ...]
    parameters: int
    macs: int
    receptive_field: int


def _feature_shapes(
    model: ResNet, image_shape: tuple[int, int, int]
) -> dict[str, tuple[int, int, int]]:
    """(height, width, channels) of what `stem`, `stage1`, … put out, in this order."""
    graphdef, state = nnx.split(evaluation_view(model))
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    outputs = jax.eval_shape(lambda s, x: nnx.merge(graphdef, s).features(x), state, images)
    return {name: outputs[name].shape[1:] for name in model.feature_channels}


def summarize(model: ResNet, image_shape: tuple[int, int, int]) -> list[Part]:
    """The parts of a network, in order; nothing is computed.

    Args:
        model: may be abstract (`nnx.eval_shape`).
        image_shape: (height, width, channels).

    Returns:
        Rows whose parameters and MACs add up to the network's.
    """
    rows: list[Part] = []
    shape, field, jump = image_shape, 1, 1
    for name, output_shape in _feature_shapes(model, image_shape).items():
        part = getattr(model, name)
        for size, stride in part.windows():
            field += (size - 1) * jump
            jump *= stride
        macs, parameters = count_macs(part, shape), count_parameters(part)
        blocks = 0 if name == "stem" else len(part.survival)
        shape = output_shape
        rows.append(Part(name, blocks, shape, parameters, macs, field))
    classes = shape[2:] if model.head is None else (model.head.out_features,)
    parameters = count_parameters(model) - sum(row.parameters for row in rows)
    macs = count_macs(model, image_shape) - sum(row.macs for row in rows)
    # The head averages all positions.
    field += (max(shape[:2]) - 1) * jump
    return [*rows, Part("head", 0, classes, parameters, macs, field)]
