"""Shortcuts A, B and C: zero-padding, projection where shape changes, projection everywhere.

    python launch.py sweep --config=configs/sweeps/shortcut_he2015.py --workdir=runs/shortcuts
    python launch.py sweep --config=configs/sweeps/shortcut_he2015.py:full --workdir=runs/shortcuts_full

He et al. 2015, §4.1 and Table 3: ResNet-34 on ImageNet, top-1 error by ten crops: plain 28.54 (Table 2),
A 25.03, B 24.52, C 24.19%. All three beat the plain net, and differ little among themselves.

Small: 20 layers, eight epochs of digits, five seeds. Training error of the last epoch in %, n = 2 (seeds
0 and 1): plain 4.5 and 8.2, A 1.9 and 1.5, B 2.2 and 1.9, C 3.6 and 4.2. Plain is the worst, as in the
paper, and A and B are alike; but C, the paper's best, is behind them in a training this short. A run
took about 11 s on one core of a busy machine.

Full: ResNet-34 by the recipe of `configs/imagenet/goyal2017.py`, but without its zero_gamma, which a
plain net cannot have; three seeds. Its errors are those of one centre crop. Not run by this project
yet: it needs accelerators.
"""

from typing import Any

from ml_collections import ConfigDict

from resnet_jax.config import default_config
from resnet_jax.sweeps.grid import product

FORMS = ("small", "full")


def get_config(form: str = "small") -> ConfigDict:
    config = default_config()
    if form == "small":
        config.model.depth = 20
        config.data.name = "digits"
        config.data.pad = 1
        config.train.duration = "8 epochs"
        config.train.batch_size = 64
        config.optimizer.learning_rate = 0.03
        config.optimizer.nesterov = True
        config.schedule.name = "cosine"
        config.schedule.warmup = "1 epoch"
        config.log.every = "1 epoch"
        config.checkpoint.every = "8 epochs"
        return config
    config.model.family = "imagenet"
    config.model.depth = 34
    config.data.name = "imagenet2012"
    config.data.image_size = 224
    config.data.crop_fraction = 0.875
    config.data.random_resized_crop = True
    config.data.placement = "stream"
    config.data.flip = True
    config.train.duration = "90 epochs"
    config.train.batch_size = 256
    config.optimizer.learning_rate = 0.1
    config.optimizer.reference_batch_size = 256
    config.optimizer.nesterov = True
    config.optimizer.weight_decay = 1e-4
    config.optimizer.decay_norm_and_bias = False
    config.schedule.name = "step"
    config.schedule.warmup = "5 epochs"
    config.schedule.boundaries = ("30 epochs", "60 epochs", "80 epochs")
    config.log.every = "1 epoch"
    return config


def sweep(form: str = "small") -> list[dict[str, Any]]:
    seeds = {"small": range(5), "full": range(3)}[form]
    return product({"model.shortcut": ("none", "A", "B", "C")}, {"seed": seeds})
