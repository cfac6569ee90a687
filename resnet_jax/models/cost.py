"""What a network costs: parameters and multiply-accumulate operations, without running it."""

import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend import core

from resnet_jax.models import onednn
from resnet_jax.models.freeze import trainable
from resnet_jax.models.modes import evaluation_view


def count_parameters(model: nnx.Module) -> int:
    """Number of `trainable` parameters; frozen ones and batch statistics do not count."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(model, trainable)))


def count_macs(model: nnx.Module, image_shape: tuple[int, int, int]) -> int:
    """Multiply-accumulate operations of one forward pass for one image.

    Counts convolutions and matrix products, the convention of the literature; normalisation,
    activations and additions do not count.

    Args:
        model: maps float[batch, height, width, channels] to logits.
        image_shape: (height, width, channels).
    """
    graphdef, state = nnx.split(evaluation_view(model))
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    jaxpr = jax.make_jaxpr(lambda s, x: nnx.merge(graphdef, s)(x))(state, image)
    return sum(times * _macs(equation) for equation, times in _equations(jaxpr.jaxpr))


def _equations(jaxpr: core.Jaxpr, times: int = 1) -> Iterator[tuple[Any, int]]:
    """All equations of a program, with how often each is run."""
    for equation in jaxpr.eqns:
        yield equation, times
        inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
        if inner is not None:
            loops = equation.params["length"] if equation.primitive.name == "scan" else 1
            yield from _equations(getattr(inner, "jaxpr", inner), times * loops)


def _macs(equation: Any) -> int:
    name, out_size = equation.primitive.name, math.prod(equation.outvars[0].aval.shape)
    shapes: list[tuple[int, ...]] = [v.aval.shape for v in equation.invars[:2]]
    if len(shapes) < 2:
        return 0
    left, right = shapes
    if name == "dot_general":
        contracting = equation.params["dimension_numbers"][0][0]
        return out_size * math.prod(left[axis] for axis in contracting)
    if name == "conv_general_dilated":
        out_feature_axis = equation.params["dimension_numbers"].rhs_spec[0]
        return out_size * math.prod(right) // right[out_feature_axis]
    if name == "ffi_call" and equation.params["target_name"] in onednn.FORWARD_CALLS:
        # In a forward pass the kernel's last axis has its output features.
        return out_size * math.prod(right) // right[-1]
    return 0
