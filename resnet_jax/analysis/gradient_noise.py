"""The gradient noise scale (McCandlish et al. 2018, "An Empirical Model of Large-Batch Training", eq. 2.9,
appendix A.1)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from resnet_jax import models
from resnet_jax.analysis.batches import in_batches
from resnet_jax.analysis.hessian import loss_of_vector, mean_gradient
from resnet_jax.analysis.items import over_items

# Groups whose gradients give the variance of the noise.
GROUPS = 100


def gradient_noise(
    model: models.ResNet,
    images: np.ndarray,
    labels: np.ndarray,
    seed: int = 0,
    run: Callable = over_items,
) -> dict[str, float]:
    """The gradient noise scale from the gradients of about `GROUPS` equal groups of examples.

    Args:
        model, images, labels: as of `eigenvalues`.
        seed: of the groups.
        run: computes the items.

    Returns:
        As of `noise_scale`.
    """
    size = max(1, len(labels) // GROUPS)
    groups = len(labels) // size
    rows = np.random.default_rng(seed).permutation(len(labels))[: groups * size]
    loss, vector, rest = loss_of_vector(model)
    over_batches = models.checked_jit(partial(mean_gradient, loss))
    mean = over_batches((vector, rest, in_batches(images[rows], labels[rows])))

    def products(shared: Any, item: dict[str, jax.Array]) -> dict[str, jax.Array]:
        vector, rest, mean = shared
        own = mean_gradient(loss, (vector, rest, (item["images"], item["labels"])))
        deviation = own - mean
        return {"square": jnp.vdot(deviation, deviation), "product": jnp.vdot(deviation, mean)}

    batches = [in_batches(images[own], labels[own]) for own in rows.reshape(groups, size)]
    items = dict(zip(("images", "labels"), map(np.stack, zip(*batches, strict=True)), strict=True))
    found = run(products, (vector, rest, mean), items, per_call=10)
    return noise_scale(found["square"], found["product"], float(jnp.vdot(mean, mean)), size)


def noise_scale(
    squares: np.ndarray, products: np.ndarray, mean_square: float, size: int
) -> dict[str, float]:
    """tr(Σ) / |G|² without bias in either part (McCandlish et al. 2018, eq. 2.9 and appendix A.1).

    Σ is the covariance of the gradients of single examples and G the gradient of all data.

    Args:
        squares: float[groups], |g - ḡ|² of the gradient g of each group and their mean ḡ.
        products: float[groups], (g - ḡ)'ḡ.
        mean_square: |ḡ|².
        size: examples of a group.

    Returns:
        `noise_scale` in examples; `gradient_square`, |G|², and `gradient_covariance_trace`, tr(Σ); the
        first two with a standard error by the jackknife over groups, `…_error`. Where the gradient cannot be
        distinguished from zero, `gradient_square` may be negative: the noise scale, or its error, is infinite.
    """
    squares, products = squares.astype(np.float64), products.astype(np.float64)

    def parts(groups: int, variance: Any, mean_square: Any) -> tuple[Any, Any, Any]:
        """Of groups whose gradients are `variance`, a mean square, from their own mean."""
        trace = size * groups / (groups - 1) * variance
        signal = mean_square - trace / (groups * size)
        positive = np.where(signal > 0, signal, np.nan)
        return trace, signal, np.nan_to_num(trace / positive, nan=np.inf)

    groups = len(squares)
    others = groups - 1
    trace, signal, scale = parts(groups, squares.mean(), mean_square)
    _, signals, scales = parts(
        others,
        # Without a group the mean moves by -(g - ḡ) / others.
        (squares.sum() - squares) / others - squares / others**2,
        mean_square - 2 * products / others + squares / others**2,
    )
    scale_error = np.sqrt(others * np.var(scales)) if np.isfinite(scales).all() else np.inf
    return {
        "noise_scale": float(scale),
        "noise_scale_error": float(scale_error),
        "gradient_square": float(signal),
        "gradient_square_error": float(np.sqrt(others * np.var(signals))),
        "gradient_covariance_trace": float(trace),
    }
