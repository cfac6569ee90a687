"""Predictions averaged over networks (He et al. 2015, Table 5; Lakshminarayanan et al. 2017, "Simple and
Scalable Predictive Uncertainty Estimation using Deep Ensembles", §2.4)."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from matplotlib.ticker import MaxNLocator
from scipy.special import softmax

from resnet_jax.analysis.calibration import Reliability, reliability, scores
from resnet_jax.analysis.request import Answer, Named, Request, finite_logits
from resnet_jax.analysis.subject import Subject
from resnet_jax.console import Bar
from resnet_jax.errors import UserError
from resnet_jax.plotting.style import COLOURS, Figure, canvas_of, looks_of, shared_legend
from resnet_jax.training.experiment import Experiment, make_experiment
from resnet_jax.training.parallel import make_parallel
from resnet_jax.training.state import pure_arrays

# So many subsets of one size are averaged at most.
MOST_SUBSETS = 200
Arrays = Mapping[str, Any]
# Of more rows the numbers would not fit in.
MOST_CELLS = 12
# The accuracy of fewer examples is noise.
FEWEST = 20


def evaluated_logits(subject: Subject, split: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """What the network answers to every example of a split, exactly as `evaluate` asks it.

    Its config's `evaluate` section counts: ten crops, several scales, size and crop of the images. Of
    several crops or scales the logits are averaged.

    Args:
        subject: the network.
        split: None: the evaluation split of the run.

    Returns:
        logits: float32[examples, classes]; labels: int32[examples].

    Raises:
        NotFiniteError: some logits are not finite.
        UserError: no such data or split, or fields of `evaluate` that contradict each other.
    """
    parallel = make_parallel("jit", "global", subject.config.parallel.num_devices)
    experiment = make_experiment(
        subject.config, split, parallel=parallel, facts=subject.data, evaluates=True
    )
    inputs = experiment.inputs
    weights = parallel.replicate(pure_arrays(subject.model))
    predict = parallel.compile(partial(_predict, experiment), inputs.placement)
    parts = []
    done, total = 0, len(inputs.eval_examples)
    with Bar(f"{subject.name}: predictions", total) as bar:
        for own, shared in inputs.eval_batches():
            logits, labels, mask = parallel.read(predict(weights, {}, own, shared))
            parts.append((logits[mask], labels[mask]))
            done += int(mask.sum())
            bar.move(done)
    logits, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return finite_logits(subject.name, logits), labels


def _predict(
    experiment: Experiment, weights: Any, numbers: Any, own: Any, shared: Any
) -> tuple[jax.Array, jax.Array, jax.Array]:
    del numbers
    batch = experiment.inputs.eval_batch((own, shared))
    params, batch_stats = weights["params"], weights["batch_stats"]
    logits = experiment.network.evaluate(params, batch_stats, batch["image"])
    return logits, batch["label"], batch["mask"]


def growth(
    probabilities: np.ndarray, labels: np.ndarray, seed: int = 0
) -> dict[str, dict[str, np.ndarray]]:
    """How good averages of 1, 2, … networks are.

    Args:
        probabilities: float[networks, examples, classes].
        labels: int[examples].
        seed: of the subsets that are drawn where there are more than 200 of a size.

    Returns:
        `mean`, `lowest` and `highest` over the subsets of a size → name of a score (`calibration.
        scores`) → float[sizes].
    """
    of_sizes = []
    for size in range(1, len(probabilities) + 1):
        subsets = _subsets(len(probabilities), size, np.random.default_rng(seed))
        found = [scores(probabilities[subset].mean(0), labels) for subset in subsets]
        of_sizes.append({name: np.array([one[name] for one in found]) for name in found[0]})
    summaries: dict[str, Callable] = {"mean": np.mean, "lowest": np.min, "highest": np.max}
    return {
        what: {name: np.array([summary(one[name]) for one in of_sizes]) for name in of_sizes[0]}
        for what, summary in summaries.items()
    }


def _subsets(count: int, size: int, generator: np.random.Generator) -> list[list[int]]:
    if math.comb(count, size) <= MOST_SUBSETS:
        return [list(subset) for subset in itertools.combinations(range(count), size)]
    return [generator.choice(count, size, replace=False).tolist() for _ in range(MOST_SUBSETS)]


def disagreement(answers: np.ndarray) -> np.ndarray:
    """Share of examples of which two networks think differently.

    Args:
        answers: int[networks, examples], classes.

    Returns:
        float[networks, networks].
    """
    return (answers[:, None] != answers[None]).mean(-1)


def analyze(request: Request) -> Answer:
    """Each network, and the mean of the probabilities of all."""
    names = [subject.name for subject in request.subjects]
    logits, labels, facts = _all_logits(request)
    probabilities = softmax(logits.astype(np.float64), -1)
    mean = f"mean of {len(names)}"
    of_all = dict(zip(names, probabilities, strict=True)) | {mean: probabilities.mean(0)}
    arrays = {
        "labels": Named(labels, ("example",), "class"),
        "disagreement": Named(
            disagreement(logits.argmax(-1)), ("network", "network"), "share of examples"
        ),
    }
    for name, own in zip(names, logits, strict=True):
        arrays[f"{name}/logits"] = Named(own, ("example", "class"))
    for name, own in of_all.items():
        arrays |= _named(name, reliability(own, labels))
    for what, found in growth(probabilities, labels, request.options.seed).items():
        for score, values in found.items():
            arrays[f"growth/{score}/{what}"] = Named(values, ("networks averaged - 1",))
    results: dict[str, dict[str, Any]] = {name: scores(own, labels) for name, own in of_all.items()}
    for subject in request.subjects:
        results[subject.name]["step"] = subject.step
    figures = [reliability_figure(arrays, [*names, mean])]
    if len(names) > 1:
        figures += [growth_figure(arrays), disagreement_figure(arrays, names)]
    return Answer(arrays, results, figures, facts)


def _named(name: str, bins: Reliability) -> dict[str, Named]:
    return {
        f"{name}/bin_count": Named(bins.examples, ("bin",), "examples"),
        f"{name}/bin_confidence": Named(bins.confidence, ("bin",)),
        f"{name}/bin_accuracy": Named(bins.accuracy, ("bin",), "share of examples"),
    }


def _all_logits(request: Request) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Of all networks on the examples of one split: [networks, examples, classes], [examples]."""
    o, first = request.options, request.subjects[0]
    if o.examples:
        raise UserError("--examples", o.examples, "is not for ensembles: they take a whole split")
    split = o.split or first.data["eval_split"]
    for other in request.subjects[1:]:
        # Sizes and normalisation may differ: each network gets the images that it was trained on.
        if any(first.data[fact] != other.data[fact] for fact in ("name", "class_names")):
            problem = f"was trained on other data than {first.name}"
            raise UserError("--workdir", other.name, problem, "analyse them apart")
    found = [evaluated_logits(subject, split) for subject in request.subjects]
    labels = found[0][1]
    for subject, (_, others) in zip(request.subjects, found, strict=True):
        if not np.array_equal(labels, others):
            problem = f"{split} has other examples there than for {first.name}"
            raise UserError("--workdir", subject.name, problem, "read both from one data_dir")
    logits = np.stack([logits for logits, _ in found])
    facts = {"data": first.data["name"], "split": split, "examples": len(labels), "seed": None}
    return logits, labels, facts


def reliability_figure(arrays: Arrays, names: Sequence[str]) -> Figure:
    """Accuracy against confidence, and how many examples have it (Guo 2017, Fig. 1)."""
    canvas, panels = canvas_of(1, 2)
    curve, histogram = panels[0]
    curve.plot([0, 1], [0, 1], color="0.6", lw=1)
    for name, look in zip(names, looks_of(len(names), ordered=False), strict=True):
        count = arrays[f"{name}/bin_count"].values
        filled = count >= FEWEST
        confidence = arrays[f"{name}/bin_confidence"].values[filled]
        accuracy = arrays[f"{name}/bin_accuracy"].values[filled]
        style = {"color": look.colour, "ls": look.dash}
        curve.plot(confidence, accuracy, marker=look.marker, ms=3, label=name, **style)
        edges = np.linspace(0, 1, len(count) + 1)
        histogram.stairs(100 * count / count.sum(), edges, lw=1.4, **style)
    for panel in panels[0]:
        panel.set_xlabel("confidence")
        panel.set_xlim(0, 1)
    curve.set_ylim(0, 1)
    curve.set_ylabel("accuracy")
    histogram.set_ylabel("examples in %")
    shared_legend(canvas, [curve])
    caption = (
        "Accuracy of examples by their confidence (grey: calibrated) where a bin has "
        f"{FEWEST} or more, and the share of examples in each bin."
    )
    return Figure("reliability", caption, canvas)


def growth_figure(arrays: Arrays) -> Figure:
    """Error and calibration against the number of networks that are averaged."""
    shown = {
        "accuracy": ("error in %", lambda values: 100 * (1 - values)),
        "loss": ("loss in nats", lambda values: values),
        "calibration_error": ("calibration error in %", lambda values: 100 * values),
    }
    canvas, panels = canvas_of(1, len(shown))
    for panel, (score, (label, convert)) in zip(panels[0], shown.items(), strict=True):
        mean, low, high = (
            convert(arrays[f"growth/{score}/{what}"].values)
            for what in ("mean", "lowest", "highest")
        )
        sizes = np.arange(1, len(mean) + 1)
        panel.fill_between(sizes, low, high, color=COLOURS[0], alpha=0.2, lw=0)
        panel.plot(sizes, mean, marker="o", ms=4, color=COLOURS[0])
        panel.set_xlabel("networks averaged")
        panel.set_ylabel(label)
        panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    caption = "Mean (line) and range (band) over all subsets of that number of networks."
    return Figure("growth", caption, canvas)


def disagreement_figure(arrays: Arrays, names: Sequence[str]) -> Figure:
    """Share of examples that two networks put into different classes."""
    canvas, panels = canvas_of(1, 1)
    panel = panels[0, 0]
    percent = 100 * arrays["disagreement"].values
    image = panel.imshow(percent, cmap="viridis", vmin=0)
    if len(names) <= MOST_CELLS:
        for (row, column), value in np.ndenumerate(percent):
            colour = "black" if value > 0.6 * percent.max() else "white"
            panel.text(column, row, f"{value:.1f}", ha="center", va="center", color=colour)
    places = range(len(names))
    panel.set_yticks(places, [f"{name}  {place + 1}" for place, name in enumerate(names)])
    panel.set_xticks(places, [str(place + 1) for place in places])
    panel.grid(False)
    canvas.colorbar(image, label="disagreement in %")
    canvas.set_figwidth(canvas.get_figwidth() + 0.11 * max(map(len, names)))
    caption = "Share of examples that two networks put into different classes."
    return Figure("disagreement", caption, canvas)
