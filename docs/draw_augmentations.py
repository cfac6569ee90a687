"""Draw docs/images/augmentations.jpg: what each augmentation makes of the same images.

    python docs/draw_augmentations.py DATA_DIR

DATA_DIR has the TFDS set imagenette/320px-v2 (`python launch.py prepare imagenette/320px-v2`).
"""

import sys
from pathlib import Path
from typing import Any

from resnet_jax.compiler import turn_off_ynnpack

turn_off_ynnpack()  # Before JAX starts.

import jax
import matplotlib.pyplot as plt
import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, ImageOps

sys.path.insert(0, str(Path(__file__).parents[1]))

from resnet_jax import random_streams
from resnet_jax.config import Config, override
from resnet_jax.data.preprocessing import make_preprocessing

SIZE, COUNT, SEED = 128, 10, 3
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ROWS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "colour jitter\n0.4": dict.fromkeys(
        ("data.brightness", "data.contrast", "data.saturation"), 0.4
    ),
    "hue 0.1": {"data.hue": 0.1},
    "PCA noise 0.1": {"data.pca_noise": 0.1},
    "RandAugment\nmagnitude 7": {"data.policy": "rand_augment", "data.rand_augment_magnitude": 7.0},
    "TrivialAugment\nWide": {"data.policy": "trivial_augment_wide"},
    "random erasing\nmean": {"data.erase": 1.0},
    "random erasing\nnoise": {"data.erase": 1.0, "data.erase_fill": "noise"},
    "mixup\nα = 0.2": {"train.mixup": 0.2},
    "cutmix\nα = 1": {"train.cutmix": 1.0},
}


def read_images(data_dir: str) -> np.ndarray:
    """One image of each class, uint8[COUNT, SIZE, SIZE, 3]."""
    source = tfds.data_source("imagenette/320px-v2", split="validation", data_dir=data_dir)
    found: dict[int, np.ndarray] = {}
    for index in range(0, len(source), 37):
        example = source[index]
        if example["label"] not in found:
            whole = Image.fromarray(example["image"])
            found[int(example["label"])] = np.asarray(ImageOps.fit(whole, (SIZE, SIZE)))
        if len(found) == COUNT:
            return np.stack([found[label] for label in sorted(found)])
    raise SystemExit(f"{data_dir} has fewer than {COUNT} classes")


def augmented(images: np.ndarray, fields: dict[str, Any]) -> np.ndarray:
    """The images as a batch of training has them, with normalisation undone: float, 0 to 1."""
    config = override(Config(), fields)
    preprocessing = make_preprocessing(config, MEAN, STD)
    labels = positions = np.arange(len(images), dtype=np.int32)
    key = random_streams.run_key(SEED)
    batch = jax.jit(preprocessing.train_batch, static_argnums=4)(
        images, labels, key, np.int32(0), len(images), positions
    )
    return np.clip(np.asarray(batch["image"]) * STD + MEAN, 0, 1)


def main() -> None:
    images = read_images(sys.argv[1])
    figure, axes = plt.subplots(len(ROWS), COUNT, figsize=(COUNT, len(ROWS)), squeeze=False)
    for row, (label, fields) in zip(axes, ROWS.items(), strict=True):
        for axis, image in zip(row, augmented(images, fields), strict=True):
            axis.imshow(image)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        row[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
    figure.subplots_adjust(left=0.11, right=1, bottom=0, top=1, wspace=0.03, hspace=0.03)
    path = Path(__file__).parent / "images" / "augmentations.jpg"
    figure.savefig(path, dpi=85, pil_kwargs={"quality": 60, "optimize": True})


if __name__ == "__main__":
    main()
