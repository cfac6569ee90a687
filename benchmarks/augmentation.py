"""Milliseconds an image that each augmentation of the compiled step takes.

    python benchmarks/augmentation.py --image_size=224 --batch_size=32

All take turns in one process, so that they meet the same machine, and work on the same smooth random
images. Prints one JSON object: the median over rounds, and the median ratio to one flip.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from resnet_jax.compiler import turn_off_ynnpack

turn_off_ynnpack()  # Before JAX starts.

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from resnet_jax import random_streams
from resnet_jax.config import Config, override
from resnet_jax.data.preprocessing import make_preprocessing

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
JITTER = dict.fromkeys(("data.brightness", "data.contrast", "data.saturation"), 0.4)
VARIANTS: dict[str, dict[str, Any]] = {
    "normalise": {},
    "flip": {"data.flip": True},
    "pad and crop": {"data.pad": 4},
    "cutout": {"data.cutout": 16},
    "random erasing": {"data.erase": 0.1},
    "colour jitter": JITTER,
    "colour jitter with hue": JITTER | {"data.hue": 0.1},
    "PCA noise": {"data.pca_noise": 0.1},
    "TrivialAugment Wide": {"data.policy": "trivial_augment_wide"},
    "RandAugment, 2 layers": {"data.policy": "rand_augment"},
    "mixup": {"train.mixup": 0.2},
    "cutmix": {"train.cutmix": 1.0},
    "mixup and cutmix": {"train.mixup": 0.2, "train.cutmix": 1.0},
}


def parse_arguments() -> argparse.Namespace:
    formatter = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=formatter)
    parser.add_argument("--image_size", type=int, default=224, help="height and width in pixels")
    parser.add_argument("--batch_size", type=int, default=32, help="images a call")
    parser.add_argument("--rounds", type=int, default=7, help="calls of each, in turn")
    return parser.parse_args()


def compiled(fields: dict[str, Any], images: jax.Array, labels: jax.Array) -> Callable[[int], None]:
    """A function of the step that makes a batch and waits for it; it has been called once."""
    config = override(Config(), fields)
    preprocessing, key = make_preprocessing(config, MEAN, STD), random_streams.run_key(0)
    positions = np.arange(len(images), dtype=np.int32)

    @jax.jit
    def batch(images: jax.Array, labels: jax.Array, step: jax.Array) -> Any:
        return preprocessing.train_batch(images, labels, key, step, len(images), positions)

    def call(step: int) -> None:
        jax.block_until_ready(batch(images, labels, np.int32(step)))

    call(0)
    return call


def main() -> None:
    arguments = parse_arguments()
    rng, count, size = np.random.default_rng(0), arguments.batch_size, arguments.image_size
    coarse = rng.integers(0, 256, (count, -(-size // 16), -(-size // 16), 3), np.uint8)
    fine = coarse.repeat(16, 1).repeat(16, 2)[:, :size, :size]
    images = jax.device_put(fine // 2 + rng.integers(0, 32, fine.shape, np.uint8))
    labels = jax.device_put(np.arange(count, dtype=np.int32))
    calls = {name: compiled(fields, images, labels) for name, fields in VARIANTS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for step in range(1, arguments.rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call(step)
            seconds[name].append(time.perf_counter() - start)
    results = {}
    for name, times in seconds.items():
        ratios = [own / flip for own, flip in zip(times, seconds["flip"], strict=True)]
        results[name] = {
            "ms_an_image": round(1e3 * statistics.median(times) / count, 3),
            "times_flip": round(statistics.median(ratios), 1),
        }
    device = jax.devices()[0].device_kind
    print(json.dumps({"device": device, **vars(arguments), "results": results}, indent=2))


if __name__ == "__main__":
    main()
