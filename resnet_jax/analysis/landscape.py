"""The loss around a network, between networks and along the course of training (Li et al. 2018,
"Visualizing the Loss Landscape of Neural Nets"; Goodfellow et al. 2015, "Qualitatively Characterizing
Neural Network Optimization Problems")."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from flax import nnx

from resnet_jax.analysis.directions import (
    Weights,
    principal_plane,
    random_directions,
    straight_line,
)
from resnet_jax.analysis.loss_surface import barrier, grid, losses_at, nonconvex_share
from resnet_jax.analysis.plots.landscape import (
    contour_figure,
    course_figure,
    curve_figure,
    line_figure,
    surface_figure,
)
from resnet_jax.analysis.request import Answer, Named, Request
from resnet_jax.analysis.subject import Examples, Subject
from resnet_jax.errors import UserError, told_of
from resnet_jax.training.state import pure_arrays

# Room around the course of training, as a share of its extent.
MARGIN = 0.2


def analyze(request: Request) -> Answer:
    """The view that `--view` names, of all networks."""
    request.one_data_set()
    first = request.subjects[0]
    examples = request.examples(first, first.evaluated_image)
    request.at_least(1, "batch_size")
    _check(request.options, examples)
    views = {"random": _random, "trajectory": _trajectory, "interpolation": _interpolation}
    return views[request.options.view](request, examples)


def _check(options: Any, examples: Examples) -> None:
    size, count = options.size, examples.facts["examples"]
    if size < 3 or size % 2 == 0:
        allowed = "an odd number from 3, so that the network is a point of its surface"
        raise UserError("--size", size, f"allowed: {allowed}")
    if not 0 < options.extent < np.inf:
        raise UserError("--extent", options.extent, "allowed: greater than 0, and finite")
    if options.statistics == "batch" and count % options.batch_size:
        problem = f"does not divide the {count} examples, and batches must be equal"
        raise UserError("--batch_size", options.batch_size, problem, "change it or --examples")


def _losses(
    request: Request,
    subject: Subject,
    label: str,
    directions: Sequence[Weights],
    places: np.ndarray,
    examples: Examples,
) -> dict[str, np.ndarray]:
    o = request.options
    run = partial(request.over_items, subject, label)
    return losses_at(
        subject.model,
        directions,
        places,
        examples.images,
        examples.labels,
        o.statistics,
        o.batch_size,
        run,
        subject.evaluated_image.views,
    )


def _random(request: Request, examples: Examples) -> Answer:
    """Loss along one or over two random, filter-normalised directions."""
    o = request.options
    xs = np.linspace(-o.extent, o.extent, o.size)
    places = xs[:, None] if o.dimensions == 1 else grid(xs, xs)
    axes = ("first_direction",) if o.dimensions == 1 else ("second_direction", "first_direction")
    arrays = {"first_direction": Named(xs, ("first_direction",), "norm of the filters")}
    results = {}
    for subject in request.subjects:
        directions = random_directions(pure_arrays(subject.model), o.dimensions, o.seed)
        found = _losses(request, subject, "surface", directions, places, examples)
        found = {name: values.reshape([o.size] * o.dimensions) for name, values in found.items()}
        arrays |= _named(subject.name, found, axes)
        centre = (o.size // 2,) * o.dimensions
        chance = np.log(len(subject.data["class_names"]))
        results[subject.name] = {
            "loss": float(found["loss"][centre]),
            "accuracy": float(found["accuracy"][centre]),
            "highest_loss": float(found["loss"].max()),
            "nonconvex_share": nonconvex_share(found["loss"]),
            "share_worse_than_chance": float((~(found["loss"] <= chance)).mean()),
            "step": subject.step,
        }
    names = [subject.name for subject in request.subjects]
    figures = [curve_figure(arrays, names)]
    if o.dimensions == 2:
        figures += [contour_figure(arrays, names), surface_figure(arrays, names)]
    return Answer(arrays, results, figures, examples.facts)


def _named(name: str, found: dict[str, np.ndarray], axes: tuple[str, ...]) -> dict[str, Named]:
    return {
        f"{name}/loss": Named(found["loss"], axes, "nats"),
        f"{name}/accuracy": Named(found["accuracy"], axes, "share of examples"),
    }


def _trajectory(request: Request, examples: Examples) -> Answer:
    """The course of each run in the plane closest to it, and the loss there."""
    arrays: dict[str, Named] = {}
    results = {}
    for subject in request.subjects:
        steps, course = _course(subject)
        plane = principal_plane(course)
        low, high = plane.positions.min(0), plane.positions.max(0)
        room = MARGIN * (high - low)
        xs, ys = np.linspace(low - room, high + room, request.options.size).T
        found = _losses(request, subject, "plane", plane.directions, grid(xs, ys), examples)
        found = {name: values.reshape(len(ys), len(xs)) for name, values in found.items()}
        name = subject.name
        arrays |= _named(name, found, ("second_component", "first_component"))
        arrays |= {
            f"{name}/first_component": Named(xs, ("first_component",), "norm of the weights"),
            f"{name}/second_component": Named(ys, ("second_component",), "norm of the weights"),
            f"{name}/steps": Named(np.array(steps), ("step",), "step"),
            f"{name}/positions": Named(plane.positions, ("step", "component")),
            f"{name}/explained": Named(plane.explained, ("component",), "share of variance"),
        }
        first, second = plane.explained.tolist()
        results[name] = {
            "explained_first": first,
            "explained_second": second,
            "networks": len(steps),
            "step": subject.step,
        }
    figures = [course_figure(arrays, [subject.name for subject in request.subjects])]
    return Answer(arrays, results, figures, examples.facts)


def _course(subject: Subject) -> tuple[list[int], list[Weights]]:
    """The checkpoints' steps up to the subject's, and the weights at each."""
    if subject.run is None:
        problem = "a config has no checkpoints"
        raise UserError("--view", "trajectory", problem, "give --workdir")
    saved = sorted(step for step in subject.run.checkpoint_steps() if step < subject.step)
    if len(saved) < 1:
        problem = "needs a checkpoint between the start and the one at --step"
        raise UserError("--view", "trajectory", problem, "train with checkpoint.keep_last=100")
    between = [subject.at(str(step)) for step in saved]
    subjects = [subject.at("init"), *between, subject]
    return [0, *saved, subject.step], [pure_arrays(s.model) for s in subjects]


def _interpolation(request: Request, examples: Examples) -> Answer:
    """Loss on the straight line between two networks."""
    o = request.options
    shares = np.linspace(0, 1, o.size)
    arrays = {"share": Named(shares, ("share",), "of the way from the first to the second")}
    results, names = {}, []
    for start, end in _ends(request):
        name = end.name if o.from_step else f"{start.name} to {end.name}"
        line = straight_line(*_alike(start, end))
        where = end.run.path.absolute() if end.run else end.name
        label = f"to step {end.step} of {where}"
        found = _losses(request, start, label, [line], shares[:, None], examples)
        arrays |= _named(name, found, ("share",))
        names.append(name)
        results[name] = {
            "loss_at_first": float(found["loss"][0]),
            "loss_at_second": float(found["loss"][-1]),
            "barrier": barrier(found["loss"]),
            "steps": f"{start.step} to {end.step}",
        }
    figures = [line_figure(arrays, names)]
    return Answer(arrays, results, figures, examples.facts)


def _ends(request: Request) -> list[tuple[Subject, Subject]]:
    subjects, earlier = request.subjects, request.options.from_step
    if earlier:
        with told_of("--from_step", instead_of="--step"):
            return [(subject.at(earlier), subject) for subject in subjects]
    if len(subjects) == 1:
        problem = "is needed to interpolate within one run"
        raise UserError("--from_step", None, problem, "give it (init, say), or give two runs")
    return [(subjects[0], other) for other in subjects[1:]]


def _alike(start: Subject, end: Subject) -> tuple[Weights, Weights]:
    if nnx.graphdef(start.model) != nnx.graphdef(end.model):
        problem = f"is another kind of network than {start.name}"
        raise UserError("--workdir", end.name, problem, "interpolate between networks of one kind")
    return pure_arrays(start.model), pure_arrays(end.model)
