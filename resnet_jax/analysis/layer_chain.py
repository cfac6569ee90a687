"""Why signals vanish or explode: products of many numbers below or above one.

A chain of fully connected layers h_l = s h_{l−1} + b W_l φ(h_{l−1}): plain (s = 0, b = 1), with identity
shortcuts (s = 1, b = 1), and with shortcuts and small branches (s = 1, b = 1/√depth, the start of SkipInit,
De & Smith 2020, §3). Weights are drawn from N(0, scale² / width): scale 1 is the initialisation of Glorot &
Bengio 2010 (eq. 12, for square matrices), √2 the one of He et al. 2015, "Delving Deep into Rectifiers" (eq. 10).
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from resnet_jax.analysis.request import Answer, Named, Request
from resnet_jax.analysis.taps import norm, tap
from resnet_jax.errors import UserError
from resnet_jax.plotting.scales import count_axis, size_axis
from resnet_jax.plotting.style import Figure, canvas_of, looks_of, shared_legend

ACTIVATIONS = {"linear": lambda x: x, "relu": jax.nn.relu, "tanh": jnp.tanh}
CONNECTIONS = ("plain", "residual", "scaled_residual")

TITLES = ("plain", "with shortcuts", "branches / √depth")


def norms_along_chain(
    weight_scales: Sequence[float],
    activation: str = "linear",
    depth: int = 50,
    width: int = 128,
    draws: int = 20,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Root mean square norms over draws of the weights, measured and expected.

    h_0 has norm √width; the result is a product of h_depth with a vector of norm 1.

    Args:
        weight_scales: √width times the deviation of the weights.
        activation: φ, a key of `ACTIVATIONS`.
        depth, width: of the chain.
        draws: of weights and input, the same for all scales.
        seed: of the draws.

    Returns:
        float64[connections, scales, depth + 1], in the order of `CONNECTIONS`:
        `activation_norm`: ‖h_l‖ / √width; `gradient_norm`: of the result with respect to h_l;
        `expected_…`: what the recursion of the variance gives for infinite width (`expected_norms`).
    """
    keys = jax.random.split(jax.random.key(seed), draws)
    run = jax.jit(partial(_run, activation, depth, width))
    scales = jnp.asarray(weight_scales, jnp.float32)
    factors = [connection_factors(connection, depth) for connection in CONNECTIONS]
    measured = [np.stack(run(scales, keys, *pair)) for pair in factors]
    # [connection, quantity, scale, draw, layer]
    norms = np.sqrt(np.square(np.asarray(measured, np.float64)).mean(3))
    expected = np.array(
        [[expected_norms(c * b, activation, depth, s) for c in weight_scales] for s, b in factors]
    )
    return {
        "activation_norm": norms[:, 0] / np.sqrt(width),
        "gradient_norm": norms[:, 1],
        "expected_activation_norm": expected[:, :, 0],
        "expected_gradient_norm": expected[:, :, 1],
    }


def connection_factors(connection: str, depth: int) -> tuple[float, float]:
    """The factors s and b of the shortcut and of the branch."""
    branch = 1 / np.sqrt(depth) if connection == "scaled_residual" else 1.0
    return float(connection != "plain"), branch


def _run(
    activation: str,
    depth: int,
    width: int,
    scales: jax.Array,
    keys: jax.Array,
    skip: jax.Array,
    branch: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Norms of activations and of gradients, float32[scales, draws, depth + 1]."""

    def one(scale: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        start, end, layers = jax.random.split(key, 3)
        h = jax.random.normal(start, (width,))
        h *= jnp.sqrt(width) / jnp.linalg.norm(h)
        direction = jax.random.normal(end, (width,))
        direction /= jnp.linalg.norm(direction)

        def layer(h: jax.Array, own: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            key, slot = own
            h = tap(norm, h, slot)
            weights = scale / jnp.sqrt(width) * jax.random.normal(key, (width, width))
            return skip * h + branch * weights @ ACTIVATIONS[activation](h), norm(h)

        def result(slots: jax.Array) -> tuple[jax.Array, jax.Array]:
            # The weights of a layer are drawn again on the way back, not kept.
            body = jax.checkpoint(layer, prevent_cse=False)
            last, norms = lax.scan(body, h, (jax.random.split(layers, depth), slots[:-1]))
            norms = jnp.append(norms, norm(last))
            return direction @ tap(norm, last, slots[-1]), norms

        gradients, norms = jax.grad(result, has_aux=True)(jnp.zeros(depth + 1))
        return norms, gradients

    return lax.map(lambda scale: jax.vmap(partial(one, scale))(keys), scales)


def expected_norms(
    scale: float, activation: str, depth: int, skip: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Root mean square norms in the limit of infinite width.

    With q_0 = 1: q_l = s² q_{l−1} + scale² E φ(√q_{l−1} z)², z ~ N(0, 1), and the squared norm of the
    gradient is multiplied by s² + scale² E φ'(√q_{l−1} z)² from layer l to l−1 (Schoenholz et al. 2017,
    "Deep Information Propagation", §3–4, without biases; with shortcuts Yang & Schoenholz 2017, "Mean
    Field Residual Networks"). Linear layers: scale^l; ReLU: (scale / √2)^l.

    Args:
        scale: of the weights times b.
        activation, depth: of the chain.
        skip: s.

    Returns:
        Of the activations and of the gradients: float64[depth + 1].
    """
    # Midpoints, so that no point lies on the kink of a ReLU.
    z = np.arange(-8, 8, 0.002) + 0.001
    weight = 0.002 * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    functions: dict[str, Any] = {
        "linear": (lambda x: x, np.ones_like),
        "relu": (lambda x: np.maximum(x, 0), lambda x: (x > 0).astype(float)),
        "tanh": (np.tanh, lambda x: 1 / np.cosh(x) ** 2),
    }
    phi, slope = functions[activation]
    variances, factors = [1.0], []
    for _ in range(depth):
        h = np.sqrt(variances[-1]) * z
        variances.append(skip**2 * variances[-1] + scale**2 * weight @ phi(h) ** 2)
        factors.append(skip**2 + scale**2 * weight @ slope(h) ** 2)
    gradients = np.cumprod([1.0, *factors[::-1]])[::-1]
    return np.sqrt(variances), np.sqrt(gradients)


def analyze(request: Request) -> Answer:
    """The chain at all weight scales, with all connections.

    Raises:
        UserError: a number is too small.
    """
    options = request.options
    scales = options.weight_scales
    for scale in scales:
        if not 0 < scale < np.inf:
            raise UserError("--weight_scales", scale, "allowed: positive and finite")
    request.at_least(1, "depth", "width", "draws")
    shape = {name: getattr(options, name) for name in ("activation", "depth", "width", "draws")}
    found = norms_along_chain(scales, **shape, seed=options.seed)
    axes = ("connection", "weight scale", "layer")
    arrays = {name: Named(array, axes) for name, array in found.items()}
    arrays["weight_scale"] = Named(np.array(scales), ("weight scale",))
    results: dict[str, dict[str, float]] = {}
    for column, scale in enumerate(scales):
        factors = results.setdefault(f"weight scale {scale:g}", {})
        for row, connection in enumerate(CONNECTIONS):
            # A layer multiplies activations on the way up and gradients on the way down.
            up, down = (found[f"{name}_norm"][row, column] for name in ("activation", "gradient"))
            for name, ratio in (("activation", up[-1] / up[0]), ("gradient", down[0] / down[-1])):
                factors[f"{connection}_{name}_factor"] = float(ratio ** (1 / options.depth))
    figures = [chain_figure(arrays, shape)]
    return Answer(arrays, results, figures)


def chain_figure(arrays: Mapping[str, Any], shape: Mapping[str, Any]) -> Figure:
    """Norms of activations and gradients along the chain, one line a weight scale."""
    canvas, panels = canvas_of(2, len(TITLES), sharex=True, sharey=True)
    scales = arrays["weight_scale"].values
    for row, name in enumerate(("activation", "gradient")):
        for column, title in enumerate(TITLES):
            panel = panels[row, column]
            norms = arrays[f"{name}_norm"].values[column]
            expected = arrays[f"expected_{name}_norm"].values[column]
            layers = np.arange(norms.shape[1])
            for index, look in enumerate(looks_of(len(scales), ordered=True)):
                marks = {"marker": look.marker, "ms": 3.5, "markevery": max(1, len(layers) // 10)}
                label = f"weight scale {scales[index]:g}"
                panel.plot(layers, norms[index], color=look.colour, ls="", label=label, **marks)
                panel.plot(layers, expected[index], color=look.colour, lw=1)
            if row == 0:
                panel.set_title(title)
            else:
                panel.set_xlabel("layer")
            count_axis(panel)
        panels[row, 0].set_ylabel(f"norm of {name}")
    size_axis(panels[0, 0], arrays["activation_norm"].values)
    shared_legend(canvas, panels.ravel().tolist())
    caption = (
        f"Norms along chains of {shape['depth']} layers of {shape['width']} {shape['activation']} units, "
        f"relative to the input (activations) and to the last layer (gradients): root mean square of "
        f"{shape['draws']} draws; lines: expected for infinite width. Right: with shortcuts too."
    )
    return Figure("norms", caption, canvas)
