"""How the loss curves: Hessian eigenvalues and trace, and the gradient noise scale."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from resnet_jax.analysis.gradient_noise import gradient_noise
from resnet_jax.analysis.hessian import eigenvalues, trace_samples
from resnet_jax.analysis.request import Answer, Named, Request
from resnet_jax.analysis.subject import Examples, Subject
from resnet_jax.errors import UserError, told_of
from resnet_jax.plotting.scales import size_axis
from resnet_jax.plotting.style import Figure, canvas_of, looks_of, shared_legend

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


def curvature_figure(arrays: Mapping[str, Any], names: Sequence[str], top: int) -> Figure:
    """Top eigenvalues, trace and noise scale of each network."""
    canvas, panels = canvas_of(1, 3)
    eigen, trace, noise = panels[0]
    values, traces, scales = [], [], []
    for place, (name, look) in enumerate(
        zip(names, looks_of(len(names), ordered=False), strict=True)
    ):
        own = {key: arrays[f"{name}/{key}"].values for key in ("eigenvalue", "residual")}
        style: dict[str, Any] = {"color": look.colour, "marker": look.marker, "ms": 5, "capsize": 3}
        ranks = np.arange(1, min(top, len(own["eigenvalue"])) + 1)
        eigen.errorbar(
            ranks, own["eigenvalue"][:top], own["residual"][:top], ls=look.dash, label=name, **style
        )
        values.append(own["eigenvalue"][:top])
        samples = arrays[f"{name}/trace_sample"].values
        error = samples.std(ddof=1) / np.sqrt(len(samples))
        trace.errorbar(place, samples.mean(), error, ls="", **style)
        traces.append(samples.mean())
        scale, scale_error = (
            float(arrays[f"{name}/{key}"].values) for key in ("noise_scale", "noise_scale_error")
        )
        if np.isfinite(scale):
            noise.errorbar(
                place, scale, scale_error if np.isfinite(scale_error) else 0, ls="", **style
            )
            scales.append(scale)
    size_axis(eigen, np.concatenate(values))
    size_axis(trace, np.array(traces))
    size_axis(noise, np.array(scales))
    eigen.set_xticks(ranks)
    eigen.set_xlabel("rank")
    eigen.set_ylabel("eigenvalue")
    for panel, label in ((trace, "trace of the Hessian"), (noise, "noise scale in examples")):
        panel.set_ylabel(label)
        panel.set_xticks([])
        panel.set_xlim(-0.5, len(names) - 0.5)
    shared_legend(canvas, panels.ravel().tolist())
    caption = (
        "Largest eigenvalues of the Hessian of the mean loss, with the residuals that bound their error; "
        "its trace and the gradient noise scale, with standard errors."
    )
    return Figure("hessian", caption, canvas)
