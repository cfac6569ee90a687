"""How the loss curves: Hessian eigenvalues and trace, and the gradient noise scale."""

from functools import partial
from typing import Any

import numpy as np

from resnet_jax.analysis.gradient_noise import gradient_noise
from resnet_jax.analysis.hessian import eigenvalues, trace_samples
from resnet_jax.analysis.plots.curvature import curvature_figure
from resnet_jax.analysis.request import Answer, Named, Request, drawn
from resnet_jax.analysis.subject import Examples, Subject
from resnet_jax.errors import UserError, told_of

DESCRIPTION = (
    "Top eigenvalues and trace of the Hessian, and the gradient noise scale, in evaluation mode."
)
EXAMPLES = 500
OPTIONS = {
    "--eigenvalues": {"type": int, "default": 5, "metavar": "N", "help": "largest ones; default 5"},
    "--lanczos_steps": {
        "type": int,
        "default": 30,
        "metavar": "N",
        "help": "products with the Hessian for the eigenvalues; default 30",
    },
    "--probes": {
        "type": int,
        "default": 20,
        "metavar": "N",
        "help": "products with the Hessian for the trace; default 20",
    },
    "--noise_examples": {
        "type": int,
        "metavar": "N",
        "help": "for the noise scale, which needs more; 0: all; default: as --examples",
    },
}
# The jackknife leaves one out, and a variance needs two.
LEAST_EXAMPLES = 3


def analyze(request: Request) -> Answer:
    """Eigenvalues, trace and noise scale of all networks.

    Raises:
        UserError: a number that is too small.
    """
    request.one_data_set()
    options = request.options
    request.at_least(1, "eigenvalues")
    request.at_least(options.eigenvalues, "lanczos_steps")
    request.at_least(2, "probes")
    examples = request.examples(request.subjects[0])
    noise_examples = _noise_examples(request, examples)
    arrays: dict[str, Named] = {}
    results = {}
    for subject in request.subjects:
        found = _curvature(request, subject, examples, noise_examples)
        results[subject.name] = _results(found, options.eigenvalues)
        arrays |= {f"{subject.name}/{name}": array for name, array in found.items()}
    names = [subject.name for subject in request.subjects]
    with drawn():
        figures = [curvature_figure(arrays, names, options.eigenvalues)]
    facts = examples.facts | {"noise_examples": len(noise_examples.labels)}
    return Answer(arrays, results, figures, facts)


def _noise_examples(request: Request, examples: Examples) -> Examples:
    """Those of the noise scale."""
    o, option = request.options, "--examples"
    if o.noise_examples is not None:
        option = "--noise_examples"
        with told_of(option, instead_of="--examples"):
            examples = request.subjects[0].examples(o.split, o.noise_examples or None, o.seed)
    if len(examples.labels) < LEAST_EXAMPLES:
        raise UserError(option, len(examples.labels), f"allowed: {LEAST_EXAMPLES} or more")
    return examples


def _curvature(
    request: Request, subject: Subject, examples: Examples, noise_examples: Examples
) -> dict[str, Named]:
    o, model = request.options, subject.model
    data = model, examples.images, examples.labels
    ritz = eigenvalues(*data, o.lanczos_steps, o.seed, f"{subject.name}: eigenvalues")
    run = partial(request.over_items, subject, "trace")
    trace = trace_samples(*data, o.probes, o.seed, run)
    run = partial(request.over_items, subject, "gradient noise")
    noise = gradient_noise(model, noise_examples.images, noise_examples.labels, o.seed, run)
    units = {"noise_scale": "examples", "noise_scale_error": "examples"}
    return {
        "eigenvalue": Named(ritz["eigenvalue"], ("Ritz value",)),
        "residual": Named(ritz["residual"], ("Ritz value",)),
        "trace_sample": Named(trace, ("probe",)),
        **{name: Named(np.array(value), (), units.get(name, "")) for name, value in noise.items()},
    }


def _results(found: dict[str, Named], top: int) -> dict[str, Any]:
    values = {name: array.values for name, array in found.items()}
    eigenvalue, residual = values.pop("eigenvalue"), values.pop("residual")
    trace = values.pop("trace_sample")
    return {
        "eigenvalues": eigenvalue[:top].tolist(),
        "largest_residual": float(residual[:top].max()),
        "lowest_eigenvalue": float(eigenvalue[-1]),
        "trace": float(trace.mean()),
        "trace_error": float(trace.std(ddof=1) / np.sqrt(len(trace))),
        **{name: value.item() for name, value in values.items()},
    }
