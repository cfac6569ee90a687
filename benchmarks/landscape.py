"""What a loss surface costs: one compiled program over all points, against loops in Python.

    python benchmarks/landscape.py --batch_sizes 50 100 250
    python benchmarks/landscape.py --ways one_program

Three ways to the same numbers, on random images: `one_program`, as in `analyze landscape`;
`compiled_once`, a loop in Python over points and batches around one compiled function; `compiled_each`,
where the loop builds the network of every point and compiles it. A few points are measured, and
the time of the whole surface is reckoned from them: compilation + points × seconds a point. Prints a
Markdown table, and one JSON object a row as it comes.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from resnet_jax.compiler import turn_off_ynnpack

turn_off_ynnpack()  # Before JAX starts.

import jax
import numpy as np
from flax import nnx

from resnet_jax import models
from resnet_jax.analysis.batches import in_batches
from resnet_jax.analysis.directions import random_directions
from resnet_jax.analysis.loss_surface import grid, losses_at
from resnet_jax.training.losses import cross_entropy
from resnet_jax.training.state import pure_arrays

WAYS = ("one_program", "compiled_once", "compiled_each")
COLUMNS = ("way", "batch", "measured", "compilation_s", "point_s", "surface_s", "ratio")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--model", default="resnet20", help="of models.create")
    add("--size", type=int, default=25, help="points a side of the surface")
    add("--examples", type=int, default=2000, help="random images")
    add("--image_size", type=int, default=32, help="pixels a side")
    add("--batch_sizes", type=int, nargs="+", default=[100], help="examples at once")
    add("--points", type=int, default=30, help="measured points; 0: all of the surface")
    add("--naive_points", type=int, default=3, help="measured points of the loop that compiles")
    add("--ways", nargs="+", default=WAYS, choices=WAYS, help="ratios are over the first")
    return parser.parse_args()


def build(name: str) -> models.ResNet:
    """The network, at initialisation, in eval mode."""
    implementation = models.automatic_implementation(jax.default_backend())
    make = partial(models.create, name, convolution=implementation)
    return models.evaluation_view(models.initialise(lambda rngs: make(rngs=rngs)))


def one_program(
    model: models.ResNet, directions: list, data: tuple, batch_size: int, places: np.ndarray
) -> np.ndarray:
    """The way of this package."""
    return losses_at(model, directions, places, *data, batch_size=batch_size)["loss"]


def compiled_once(
    model: models.ResNet, directions: list, data: tuple, batch_size: int, places: np.ndarray
) -> np.ndarray:
    """A loop around one compiled function of weights and batch."""
    graph, weights = nnx.graphdef(model), pure_arrays(model)

    @jax.jit
    def loss(moved: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
        network = nnx.merge(graph, moved["params"], moved["batch_stats"])
        return cross_entropy(network(images), labels).mean()

    batches = list(zip(*in_batches(*data, batch_size), strict=True))
    losses = []
    for place in places:
        moved = _moved(weights, directions, place)
        losses.append(np.mean([loss(moved, *batch) for batch in batches]))
    return np.array(losses)


def compiled_each(
    name: str, directions: list, data: tuple, batch_size: int, places: np.ndarray
) -> np.ndarray:
    """A loop that builds the network of every point and compiles it."""
    batches = list(zip(*in_batches(*data, batch_size), strict=True))
    losses = []
    for place in places:
        model = build(name)
        moved = _moved(pure_arrays(model), directions, place)
        nnx.update(model, moved["params"], moved["batch_stats"])

        @jax.jit
        def loss(images: jax.Array, labels: jax.Array, model: Any = model) -> jax.Array:
            return cross_entropy(model(images), labels).mean()

        losses.append(np.mean([loss(*batch) for batch in batches]))
    return np.array(losses)


def _moved(weights: Any, directions: list, place: np.ndarray) -> Any:
    a, b = np.float32(place)
    return jax.tree.map(lambda w, d, e: w + a * d + b * e, weights, *directions)


def measure(way: Callable[[np.ndarray], np.ndarray], places: np.ndarray) -> tuple[float, float]:
    """Seconds before the first point, and of each; compilation is in every call and cancels out.

    It varies by a second or so: measure so many points that this does not matter.
    """
    # With several devices, one point takes as long as one on each.
    few = max(1, min(jax.device_count(), len(places) // 2))
    short = min(_seconds(way, places[:few]) for _ in range(2))
    each = (_seconds(way, places) - short) / (len(places) - few)
    if each <= 0:
        sys.exit("error: more points took less time; measure more by --points")
    return max(0.0, short - few * each), each


def _seconds(way: Callable[[np.ndarray], np.ndarray], places: np.ndarray) -> float:
    start = time.perf_counter()
    way(places)
    return time.perf_counter() - start


def main() -> None:
    arguments = parse_arguments()
    jax.config.update("jax_enable_compilation_cache", False)
    model = build(arguments.model)
    rng = np.random.default_rng(0)
    shape = arguments.examples, arguments.image_size, arguments.image_size, 3
    labels = rng.integers(0, 10, arguments.examples, np.int32)
    data = rng.standard_normal(shape, np.float32), labels
    directions = random_directions(pure_arrays(model), 2, seed=0)
    axis = np.linspace(-1, 1, arguments.size)
    surface = rng.permutation(grid(axis, axis))
    points, naive = arguments.points or len(surface), arguments.naive_points
    rows = []
    for batch_size in arguments.batch_sizes:
        rest = directions, data, batch_size
        ways = {
            "one_program": (partial(one_program, model, *rest), points),
            "compiled_once": (partial(compiled_once, model, *rest), points),
            "compiled_each": (partial(compiled_each, arguments.model, *rest), naive),
        }
        first = None
        for name in arguments.ways:
            way, count = ways[name]
            compilation, each = measure(way, surface[:count])
            whole = compilation + each * len(surface)
            first = first or whole
            numbers = round(compilation, 1), round(each, 3), round(whole), round(whole / first, 2)
            rows.append(dict(zip(COLUMNS, (name, batch_size, count, *numbers), strict=True)))
            print(json.dumps(rows[-1]), flush=True)
    print("\n| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
    for row in rows:
        print("| " + " | ".join(str(value) for value in row.values()) + " |")


if __name__ == "__main__":
    main()
