"""Depth and shortcut on three data sets: digits, Fashion-MNIST and CIFAR-10.

    python launch.py sweep --config=configs/sweeps/dataset.py --workdir=runs/dataset
    python launch.py sweep --config=configs/sweeps/dataset.py:full --workdir=runs/dataset_full

Fashion-MNIST and CIFAR-10 must be prepared (`launch.py prepare`). He et al. 2015, §4.2: the
degradation of plain nets on CIFAR-10 (Fig. 6) is like that on ImageNet (Fig. 4) and on MNIST.

Small: six epochs of digits, and of the first 2,000 images of the others at 16×16, three seeds. Training
error of the last epoch in %, mean ± std, n = 3:

    depth                     8             20            32
    digits         plain      4.1 ± 0.3    10.7 ± 3.0    36.0 ± 8.6
                   residual   3.9 ± 0.5     2.7 ± 0.2     3.2 ± 0.5
    Fashion-MNIST  plain     25.3 ± 1.5    25.9 ± 0.7    36.1 ± 3.7
                   residual  25.6 ± 1.1    22.0 ± 0.7    22.9 ± 0.6
    CIFAR-10       plain     62.7 ± 1.2    69.8 ± 0.8    79.7 ± 3.7
                   residual  62.2 ± 0.6    59.9 ± 1.1    61.1 ± 1.5

On each of them the plain net of 32 layers trains worst and residual nets get no worse than their shallowest;
at 32 layers the 95% intervals (by t) of the training errors of the two are apart. Between 8 and 20 layers the
plain nets of Fashion-MNIST do not differ. The sweep took 16 min 14 s on two CPU cores.

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
