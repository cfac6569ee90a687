"""The Hessian of the loss: eigenvalues by Lanczos' method with full re-orthogonalisation, and the trace by
Hutchinson's estimator (Ghorbani et al. 2019, "An Investigation into Neural Net Optimization via Hessian
Eigenvalue Density", §2; Yao et al. 2020, "PyHessian", §III)."""

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.flatten_util import ravel_pytree
from matfree.decomp import tridiag_sym

from resnet_jax import models
from resnet_jax.analysis.batches import in_batches, summed_loss
from resnet_jax.analysis.items import over_items
from resnet_jax.console import Bar

Loss = Callable[[jax.Array, Any, Any], jax.Array]
# The parameters, the other arrays of the network, and the data in batches.
Point = tuple[jax.Array, Any, tuple[Any, Any]]


def loss_of_vector(model: models.ResNet) -> tuple[Loss, jax.Array, Any]:
    """The loss as a function of all parameters.

    Args:
        model: in eval mode, so that the loss is a mean over examples.

    Returns:
        A function (vector, rest, (images, labels)) → summed cross-entropy, where examples of a negative
        label count nothing; the parameters, float[parameters]; and the other arrays.
    """
    split: Any = nnx.split(model, models.trainable, ...)
    graph, params, rest = split
    vector, unravel = ravel_pytree(nnx.to_pure_dict(params))

    def loss(vector: jax.Array, rest: Any, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
        images, labels = batch
        logits = nnx.merge(graph, unravel(vector), rest)(images)
        return summed_loss(logits, labels)

    return loss, vector, nnx.to_pure_dict(rest)


def mean_gradient(loss: Loss, point: Point) -> jax.Array:
    """Gradient of the mean loss over batches: float[parameters]."""
    vector, rest, batches = point

    def add(total: jax.Array, batch: Any) -> tuple[jax.Array, None]:
        return total + jax.grad(loss)(vector, rest, batch), None

    return lax.scan(add, jnp.zeros_like(vector), batches)[0] / (batches[1] >= 0).sum()


def hessian_product(loss: Loss, point: Point, direction: jax.Array) -> jax.Array:
    """The Hessian of the mean loss times a direction: float[parameters].

    It is the gradient of a product with the gradient, since the convolutions of CPUs have no derivative
    in forward mode.
    """
    vector, rest, batches = point

    def add(total: jax.Array, batch: Any) -> tuple[jax.Array, None]:
        def along(vector: jax.Array) -> jax.Array:
            return jnp.vdot(jax.grad(loss)(vector, rest, batch), direction)

        return total + jax.grad(along)(vector), None

    return lax.scan(add, jnp.zeros_like(vector), batches)[0] / (batches[1] >= 0).sum()


def eigenvalues(
    model: models.ResNet,
    images: np.ndarray,
    labels: np.ndarray,
    steps: int = 30,
    seed: int = 0,
    label: str = "",
) -> dict[str, np.ndarray]:
    """Approximate eigenvalues of the Hessian of the mean loss; those at the ends converge first.

    Args:
        model: in eval mode.
        images: float32[examples, height, width, channels], normalised.
        labels: int32[examples].
        steps: products with the Hessian, at most as many as there are parameters.
        seed: of the first vector.
        label: of the progress bar.

    Returns:
        `eigenvalue`: float[steps], Ritz values in descending order, fewer where a Hessian of low rank
        has no more; `residual`: of the same shape, ‖H v − λ v‖ of each, which bounds the distance to
        the nearest eigenvalue, and at least the rounding of one product.
    """
    loss, vector, rest = loss_of_vector(model)
    batches = in_batches(images, labels)
    start = jax.random.normal(jax.random.key(seed), vector.shape, vector.dtype)

    with Bar(label, steps) as bar:
        done = count(1)

        def product(direction: jax.Array, point: Point) -> jax.Array:
            result = hessian_product(loss, point, direction)
            jax.debug.callback(lambda _: bar.move(next(done)), result[0])
            return result

        lanczos = tridiag_sym(steps, reortho="full", custom_vjp=False)
        run = models.checked_jit(partial(lanczos, product))
        _, matrix, remainder, _ = run(start, (vector, rest, batches))
        return _ritz(np.asarray(matrix), float(jnp.linalg.norm(remainder)))


def _ritz(matrix: np.ndarray, last: float) -> dict[str, np.ndarray]:
    """Eigenvalues of a tridiagonal matrix, and their residuals as Ritz values.

    Args:
        matrix: float[steps, steps].
        last: what would stand next to its last diagonal element.
    """
    beside = np.append(np.diagonal(matrix, 1), last)
    # From where this is 0, nothing new was found, and what follows is noise.
    (exhausted,) = np.nonzero(beside < 100 * np.finfo(matrix.dtype).eps * np.abs(matrix).max())
    size = exhausted[0] + 1 if exhausted.size else len(matrix)
    values, vectors = np.linalg.eigh(matrix[:size, :size])
    # Products with the Hessian are rounded, however well the vectors converge.
    rounding = np.finfo(matrix.dtype).eps * np.abs(values).max()
    residual = np.maximum(beside[size - 1] * np.abs(vectors[-1]), rounding)
    return {"eigenvalue": values[::-1], "residual": residual[::-1]}


def trace_samples(
    model: models.ResNet,
    images: np.ndarray,
    labels: np.ndarray,
    probes: int = 20,
    seed: int = 0,
    run: Callable = over_items,
) -> np.ndarray:
    """Products z'Hz with random signs z, whose mean is the trace of the Hessian (Hutchinson 1990).

    Args:
        model, images, labels: as of `eigenvalues`.
        probes: how many.
        seed: of the signs.
        run: computes the items.

    Returns:
        float[probes].
    """
    loss, vector, rest = loss_of_vector(model)

    def sample(point: Point, item: dict[str, jax.Array]) -> dict[str, jax.Array]:
        key = jax.random.fold_in(jax.random.key(seed), item["probe"])
        signs = jax.random.rademacher(key, point[0].shape, point[0].dtype)
        return {"sample": jnp.vdot(signs, hessian_product(loss, point, signs))}

    point = vector, rest, in_batches(images, labels)
    return run(sample, point, {"probe": np.arange(probes)})["sample"]
