"""Taps: the gradient with respect to activations, measured on its way back.

A tap passes an activation on unchanged. In the backward pass it measures the gradient that goes through
it, and hands the measurement out as "the gradient" of its slot, an array of zeros that the result does
not depend on. So one backward pass measures the gradients of all layers and keeps none of them; in a
loop over blocks the measurements are stacked like any other gradient.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

Measure = Callable[[jax.Array], jax.Array]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def tap(measure: Measure, x: jax.Array, slot: jax.Array) -> jax.Array:
    """x.

    Args:
        measure: of an array like x, returns one like `slot`.
        x: float[...], an activation.
        slot: zeros; the gradient with respect to it is `measure` of that with respect to x.
    """
    del measure, slot
    return x


def _forward(measure: Measure, x: jax.Array, slot: jax.Array) -> tuple[jax.Array, None]:
    return tap(measure, x, slot), None


def _backward(measure: Measure, _: None, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    return gradient, measure(gradient)


tap.defvjp(_forward, _backward)


class TappedLayer:
    """A layer whose output is tapped and measured.

    Args:
        layer: it is called with one array.
        measure, slot: of `tap`.

    Attributes:
        output: `measure` of what the layer last put out.
    """

    def __init__(self, layer: Callable[[jax.Array], jax.Array], measure: Measure, slot: Any):
        self.layer, self.measure, self.slot = layer, measure, slot

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.layer(x)
        self.output = self.measure(y)
        return tap(self.measure, y, self.slot)


def tapped_block(measure: Measure, block: Any, x: jax.Array, slots: Any) -> tuple[jax.Array, Any]:
    """A block whose layers and output are tapped; a step of `Chain.blocks`.

    The response of a layer is the output of its convolution and norm (if it has one), before the
    activation (He et al. 2015, Fig. 7).

    Args:
        measure: of `tap`.
        block: a `models.ResidualBlock`.
        x: float[batch, height, width, channels].
        slots: `layers` [layers, ...] and `output` [...].

    Returns:
        The output of the block, and the measured activations in the form of `slots`.
    """
    branch = block.branch
    layers = []
    for number in range(1, branch.num_layers + 1):
        norm = f"norm{number}"
        name = norm if hasattr(branch, norm) else f"conv{number}"
        layers.append(TappedLayer(getattr(branch, name), measure, slots["layers"][number - 1]))
        # Not a part of the module: it lives as long as this call.
        object.__setattr__(branch, name, layers[-1])
    y = block(x)
    measured = {"layers": jnp.stack([layer.output for layer in layers]), "output": measure(y)}
    return tap(measure, y, slots["output"]), measured


def moments(x: jax.Array) -> jax.Array:
    """Mean, standard deviation and norm of each example: float[batch, ...] to float32[batch, 3]."""
    flat = x.reshape(len(x), -1)
    flat = flat.astype(jnp.promote_types(jnp.float32, x.dtype))
    means = flat.mean(1)
    deviations = jax.vmap(norm)(flat - means[:, None]) / math.sqrt(flat.shape[1])
    return jnp.stack([means, deviations, jax.vmap(norm)(flat)], 1)


def norm(x: jax.Array) -> jax.Array:
    """L2 norm of all entries; the squares of a vanishing or exploding gradient leave float32."""
    largest = jnp.maximum(jnp.abs(x).max(), jnp.finfo(x.dtype).tiny)
    return largest * jnp.sqrt(jnp.square(x / largest).sum())
