"""Deleting every block of a network: one compiled program, and the loop that builds each net anew.

    python benchmarks/lesion.py --model=resnet110 --examples=1000

The loop removes a block, compiles the shorter network and runs it, for some blocks of the same shape
(--blocks), once for networks whose stages are loops as here (`scanned`) and once as they usually are
(`unrolled`); its time for all blocks is the median of these times their number. Compilation counts,
without a cache. Weights and images are random. Prints one JSON object a row and a Markdown table.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from resnet_jax.compiler import turn_off_ynnpack

turn_off_ynnpack()  # Before JAX starts.

import jax
import numpy as np
from flax import nnx

sys.path.insert(0, str(Path(__file__).parents[1]))

from resnet_jax import models
from resnet_jax.analysis import lesion
from resnet_jax.analysis.batches import in_batches
from resnet_jax.analysis.chain import split_chain


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--model", default="resnet110", help="of the zoo, of the CIFAR family")
    add("--examples", type=int, default=1000, help="images")
    add("--image_size", type=int, default=32, help="pixels")
    add("--blocks", type=int, default=3, help="blocks that the loop deletes")
    add("--layouts", nargs="*", default=["scanned", "unrolled"], help="scanned, unrolled")
    return parser.parse_args()


def make_network(name: str, scanned: bool) -> Any:
    implementation = models.automatic_implementation(jax.default_backend())
    model = models.initialise(
        lambda rngs: models.create(name, scan_blocks=scanned, convolution=implementation, rngs=rngs)
    )
    return models.evaluation_view(model)


def delete_all(model: Any, images: np.ndarray, labels: np.ndarray) -> float:
    """Seconds for every block, in one program."""
    chain, _ = split_chain(model)
    start = time.perf_counter()
    lesion.error_after(model, images, labels, lesion.delete_one(chain))
    return time.perf_counter() - start


def shorter_networks(model: Any, count: int) -> Iterator[Any]:
    """The network without one block, for `count` blocks spread over the depth."""
    places = [
        (number, place)
        for number, stage in enumerate(model.stages(), 1)
        for place in range(1, len(stage.survival))
    ]
    for index in np.linspace(0, len(places) - 1, count).round().astype(int):
        number, place = places[index]
        shorter = nnx.clone(model)
        stage = getattr(shorter, f"stage{number}")
        stage.survival = stage.survival[:-1]
        if stage.scanned is None:
            stage.blocks.pop(place)
        else:
            graph, arrays = nnx.split(stage.scanned)
            without = jax.tree.map(lambda a, row=place - 1: np.delete(a, row, 0), arrays)
            stage.scanned = nnx.merge(graph, without)
        yield shorter


def delete_in_loop(
    model: Any, images: np.ndarray, labels: np.ndarray, count: int
) -> tuple[list[float], list[float]]:
    """Seconds for each of some blocks, with and without compiling."""
    whole, running = [], []
    start = time.perf_counter()
    for network in shorter_networks(model, count):
        batches, wanted = in_batches(images, labels)
        answer = jax.jit(lambda network, x: network(x).argmax(-1))
        answer = answer.lower(network, batches[0]).compile()
        compiled = time.perf_counter()
        answers = [np.asarray(answer(network, batch)) for batch in batches]
        np.mean((np.stack(answers) != wanted)[wanted >= 0])
        end = time.perf_counter()
        whole.append(end - start)
        running.append(end - compiled)
        start = time.perf_counter()
    return whole, running


def main() -> None:
    arguments = parse_arguments()
    jax.config.update("jax_enable_compilation_cache", False)
    rng = np.random.default_rng(0)
    shape = (arguments.examples, arguments.image_size, arguments.image_size, 3)
    images = rng.standard_normal(shape, np.float32)
    labels = rng.integers(0, 10, arguments.examples, np.int32)
    model = make_network(arguments.model, scanned=True)
    blocks = split_chain(model)[0].num_blocks
    ours = delete_all(model, images, labels)
    rows = [{"how": "one program", "blocks": blocks, "seconds": round(ours, 1), "ratio": 1.0}]
    print(json.dumps(rows[0]), flush=True)
    for layout in arguments.layouts:
        model = make_network(arguments.model, layout == "scanned")
        whole, running = delete_in_loop(model, images, labels, arguments.blocks)
        one = statistics.median(whole)
        rows.append(
            {
                "how": f"loop, {layout}",
                "blocks": len(whole),
                "seconds_a_block": round(one, 2),
                "of_which_running": round(statistics.median(running), 2),
                "seconds": round(one * blocks, 1),
                "ratio": round(one * blocks / ours, 1),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    columns = ("how", "blocks", "seconds_a_block", "of_which_running", "seconds", "ratio")
    print(f"\n{arguments.model}, {blocks} blocks, {arguments.examples} images, {jax.devices()}")
    print("\n| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for row in rows:
        print("| " + " | ".join(str(row.get(name, "-")) for name in columns) + " |")


if __name__ == "__main__":
    main()
