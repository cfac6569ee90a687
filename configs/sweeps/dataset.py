"""Depth and shortcut on three data sets: digits, Fashion-MNIST and CIFAR-10.

    python launch.py sweep --config=configs/sweeps/dataset.py --workdir=runs/dataset
    python launch.py sweep --config=configs/sweeps/dataset.py:full --workdir=runs/dataset_full

Fashion-MNIST and CIFAR-10 must be prepared (`launch.py prepare`). He et al. 2015, §4.2: the
degradation of plain nets on CIFAR-10 (Fig. 6) is like that on ImageNet (Fig. 4) and on MNIST.

Small: six epochs of digits, and of the first 2,000 images of the others at 16×16, three seeds. Training
error of the last epoch in %, mean ± std, n = 3 (digits: n = 5, from `depth.py`):

    depth                     8             20            32
    digits         plain      3.9 ± 0.3     9.6 ± 3.2     36 ± 10
                   residual   4.2 ± 0.4     2.9 ± 0.4     3.0 ± 0.7
    Fashion-MNIST  plain     25.1 ± 1.6    26.4 ± 1.5    35.1 ± 2.8
                   residual  25.2 ± 1.2    21.9 ± 0.5    22.8 ± 1.3
    CIFAR-10       plain     63.3 ± 1.1    69.7 ± 1.4    76.6 ± 2.7
                   residual  62.0 ± 0.3    60.9 ± 1.3    60.4 ± 1.5

On each of them the plain net of 32 layers is the worst and residual nets get no worse; at 32 layers
the 95% intervals (by t) of the two are apart. Between 8 and 20 layers the plain nets of Fashion-MNIST
do not differ. A run took from 4 s (8 layers) to 50 s (32) on one core of a busy machine, and
each of the 18 networks about 10 s to compile.

Full: the recipe of He et al. 2015, §4.2, on Fashion-MNIST and CIFAR-10, 20 to 56 layers, five seeds. Not run by
this project yet: it needs an accelerator.
"""

from typing import Any

from ml_collections import ConfigDict

from resnet_jax.config import default_config
from resnet_jax.sweeps.grid import product

FORMS = ("small", "full")
PART = {
    "data.image_size": 16,
    "data.train_split": "train[:2000]",
    "data.eval_split": "test[:500]",
}


def get_config(form: str = "small") -> ConfigDict:
    config = default_config()
    if form == "small":
        config.train.duration = "6 epochs"
        config.train.batch_size = 64
        config.optimizer.learning_rate = 0.03
        config.optimizer.nesterov = True
        config.schedule.name = "cosine"
        config.schedule.warmup = "1 epoch"
        config.log.every = "1 epoch"
        config.checkpoint.every = "6 epochs"
        return config
    config.data.pad = 4
    config.data.flip = True
    config.train.duration = "64000 steps"
    config.train.batch_size = 128
    config.optimizer.learning_rate = 0.1
    config.schedule.name = "step"
    config.schedule.boundaries = ("32000 steps", "48000 steps")
    config.log.every = "1 epoch"
    return config


def sweep(form: str = "small") -> list[dict[str, Any]]:
    kinds = {"model.shortcut": ("none", "A")}
    if form == "full":
        sets, depths = (
            {"data.name": ("fashion_mnist", "cifar10")},
            {"model.depth": (20, 32, 44, 56)},
        )
        return product(sets, depths, kinds, {"seed": range(5)})
    details = {
        "digits": {"data.pad": 1},
        "fashion_mnist": {"data.pad": 2, "data.flip": True, **PART},
        "cifar10": {"data.pad": 2, "data.flip": True, **PART},
    }
    runs = product({"data.name": details}, {"model.depth": (8, 20, 32)}, kinds, {"seed": range(3)})
    return [run | details[run["data.name"]] for run in runs]
