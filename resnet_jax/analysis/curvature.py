"""How the loss curves: Hessian eigenvalues and trace, and the gradient noise scale.

Eigenvalues by Lanczos' method with full re-orthogonalisation, the trace by Hutchinson's estimator
(Ghorbani et al. 2019, "An Investigation into Neural Net Optimization via Hessian Eigenvalue Density", §2;
Yao et al. 2020, "PyHessian", §III), the noise scale after McCandlish et al. 2018 ("An Empirical Model of
Large-Batch Training", eq. 2.9, appendix A.1).
"""

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import lax
from jax.flatten_util import ravel_pytree
from matfree.decomp import tridiag_sym

from resnet_jax import models
from resnet_jax.analysis.batches import in_batches
from resnet_jax.analysis.items import Bar, over_items
from resnet_jax.analysis.plots.curvature import curvature_figure
from resnet_jax.analysis.request import Answer, Named, Request, drawn
from resnet_jax.errors import UserError

Loss = Callable[[jax.Array, Any, Any], jax.Array]
# The parameters, the other arrays of the network, and the data in batches.
Point = tuple[jax.Array, Any, tuple[Any, Any]]
# Groups whose gradients give the variance of the noise.
GROUPS = 100


def loss_of_vector(model: models.ResNet) -> tuple[Loss, jax.Array, Any]:
    """The loss as a function of all parameters.

    Args:
        model: in eval mode, so that the loss is a mean over examples.

    Returns:
        A function (vector, rest, (images, labels)) → summed cross-entropy, where examples of a negative
        label count nothing; the parameters, float[parameters]; and the other arrays.
    """
    split: Any = nnx.split(model, nnx.Param, ...)
    graph, params, rest = split
    vector, unravel = ravel_pytree(nnx.to_pure_dict(params))

    def loss(vector: jax.Array, rest: Any, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
        images, labels = batch
        logits = nnx.merge(graph, unravel(vector), rest)(images)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(labels, 0))
        return jnp.where(labels >= 0, losses, 0).sum()

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
        _, matrix, remainder, _ = jax.jit(partial(lanczos, product))(start, (vector, rest, batches))
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
    images, labels = images[rows], labels[rows]
    loss, vector, rest = loss_of_vector(model)
    mean = jax.jit(partial(mean_gradient, loss))((vector, rest, in_batches(images, labels)))

    def products(shared: Any, item: dict[str, jax.Array]) -> dict[str, jax.Array]:
        vector, rest, mean = shared
        own = jax.grad(loss)(vector, rest, (item["images"], item["labels"])) / size
        return {"square": jnp.vdot(own, own), "product": jnp.vdot(own, mean)}

    items = {
        "images": images.reshape(groups, size, *images.shape[1:]),
        "labels": labels.reshape(groups, size),
    }
    found = run(products, (vector, rest, mean), items, per_call=10)
    return noise_scale(found["square"], found["product"], float(jnp.vdot(mean, mean)), size)


def noise_scale(
    squares: np.ndarray, products: np.ndarray, mean_square: float, size: int
) -> dict[str, float]:
    """tr(Σ) / |G|² without bias in either part (McCandlish et al. 2018, eq. 2.9 and appendix A.1).

    Σ is the covariance of the gradients of single examples and G the gradient of all data.

    Args:
        squares: float[groups], |g|² of the gradient g of each group.
        products: float[groups], g'ḡ with their mean ḡ.
        mean_square: |ḡ|².
        size: examples of a group.

    Returns:
        `noise_scale` in examples; `gradient_square`, |G|², and `gradient_covariance_trace`, tr(Σ); the
        first two with a standard error by the jackknife over groups, `…_error`. Where the gradient is not
        told from zero, `gradient_square` may be negative: the noise scale, or its error, is infinite.
    """
    squares, products = squares.astype(np.float64), products.astype(np.float64)

    def parts(groups: int, square: Any, mean_square: Any) -> tuple[Any, Any, Any]:
        """Of groups whose squares have the mean `square`."""
        trace = size * groups / (groups - 1) * (square - mean_square)
        signal = mean_square - trace / (groups * size)
        positive = np.where(signal > 0, signal, np.nan)
        return trace, signal, np.nan_to_num(trace / positive, nan=np.inf)

    groups = len(squares)
    others = groups - 1
    trace, signal, scale = parts(groups, squares.mean(), mean_square)
    _, signals, scales = parts(
        others,
        (squares.sum() - squares) / others,
        (groups**2 * mean_square - 2 * groups * products + squares) / others**2,
    )
    scale_error = np.sqrt(others * np.var(scales)) if np.isfinite(scales).all() else np.inf
    return {
        "noise_scale": float(scale),
        "noise_scale_error": float(scale_error),
        "gradient_square": float(signal),
        "gradient_square_error": float(np.sqrt(others * np.var(signals))),
        "gradient_covariance_trace": float(trace),
    }


def analyze(request: Request) -> Answer:
    """Eigenvalues, trace and noise scale of all networks.

    Raises:
        UserError: a number that is too small.
    """
    request.one_data_set()
    options = request.options
    for name, least in (("eigenvalues", 1), ("lanczos_steps", options.eigenvalues), ("probes", 2)):
        if getattr(options, name) < least:
            raise UserError(f"--{name}", getattr(options, name), f"allowed: {least} or more")
    examples = request.examples(request.subjects[0])
    noise_examples = examples
    if options.noise_examples is not None:
        how = options.split, options.noise_examples or None, options.seed
        noise_examples = request.subjects[0].examples(*how)
    if len(noise_examples.labels) < 3:
        raise UserError("--examples", len(noise_examples.labels), "allowed: 3 or more")
    arrays: dict[str, Named] = {}
    results = {}
    for subject in request.subjects:
        data = subject.model, examples.images, examples.labels
        shown = f"{subject.name}: eigenvalues"
        ritz = eigenvalues(*data, options.lanczos_steps, options.seed, shown)
        run = partial(request.over_items, subject, "trace")
        trace = trace_samples(*data, options.probes, options.seed, run)
        run = partial(request.over_items, subject, "gradient noise")
        noise = gradient_noise(
            subject.model, noise_examples.images, noise_examples.labels, options.seed, run
        )
        top = options.eigenvalues
        results[subject.name] = {
            "eigenvalues": ritz["eigenvalue"][:top].tolist(),
            "largest_residual": float(ritz["residual"][:top].max()),
            "lowest_eigenvalue": float(ritz["eigenvalue"][-1]),
            "trace": float(trace.mean()),
            "trace_error": float(trace.std(ddof=1) / np.sqrt(len(trace))),
            **{name: value if np.isfinite(value) else None for name, value in noise.items()},
        }
        found = {
            "eigenvalue": Named(ritz["eigenvalue"], ("Ritz value",)),
            "residual": Named(ritz["residual"], ("Ritz value",)),
            "trace_sample": Named(trace, ("probe",)),
            **{name: Named(np.array(value), ()) for name, value in noise.items()},
        }
        arrays |= {f"{subject.name}/{name}": array for name, array in found.items()}
    names = [subject.name for subject in request.subjects]
    with drawn():
        figures = [curvature_figure(arrays, names, options.eigenvalues)]
    facts = examples.facts | {"noise_examples": len(noise_examples.labels)}
    return Answer(arrays, results, figures, facts)
