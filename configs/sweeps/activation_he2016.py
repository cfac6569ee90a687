"""Where a block normalises and activates: five orders.

    python launch.py sweep --config=configs/sweeps/activation_he2016.py --workdir=runs/order
    python launch.py sweep --config=configs/sweeps/activation_he2016.py:full --workdir=runs/order_full

He et al. 2016, Table 2: CIFAR-10, test error in % of 110 / 164 (bottleneck) layers, median of five runs:
original 6.61 / 5.93, BN after addition 8.17 / 6.50, ReLU before addition 7.84 / 6.14, ReLU-only
pre-activation 6.71 / 5.91, full pre-activation 6.37 / 5.46.

Small: 32 layers, six epochs of digits, three seeds. Error at the end in %, mean ± std, n = 3:

                               training      test
    original                   3.3 ± 0.7     1.7 ± 1.0
    BN after addition           17 ± 2        13 ± 1
    ReLU before addition        11 ± 6       5.4 ± 2.5
    ReLU-only pre-activation   3.2 ± 0.5     2.7 ± 1.0
    full pre-activation        4.7 ± 0.3     2.3 ± 0.9

BN after addition is the worst, as in the paper. ReLU before addition is next, but its 95% interval
reaches the original's. That full pre-activation is the best does not show. A run took about 16 s on
one core of a busy machine, and each of the five networks about 10 s to compile.

Full: the paper's recipe and both networks, five seeds. Not run by this project yet: it needs an
accelerator.
"""

from typing import Any

from ml_collections import ConfigDict

from resnet_jax.config import default_config
from resnet_jax.sweeps.grid import product, zip_

FORMS = ("small", "full")


def get_config(form: str = "small") -> ConfigDict:
    config = default_config()
    if form == "small":
        config.model.depth = 32
        config.data.name = "digits"
        config.data.pad = 1
        config.train.duration = "6 epochs"
        config.train.batch_size = 64
        config.optimizer.learning_rate = 0.03
        config.optimizer.nesterov = True
        config.schedule.name = "cosine"
        config.schedule.warmup = "1 epoch"
        config.log.every = "1 epoch"
        config.checkpoint.every = "6 epochs"
        return config
    config.data.name = "cifar10"
    config.data.pad = 4
    config.data.flip = True
    config.train.duration = "64000 steps"
    config.train.batch_size = 128
    config.optimizer.learning_rate = 0.1
    config.schedule.name = "step"
    config.schedule.warmup = "400 steps"
    config.schedule.warmup_start_factor = 0.1
    config.schedule.boundaries = ("32000 steps", "48000 steps")
    config.log.every = "1 epoch"
    return config


def sweep(form: str = "small") -> list[dict[str, Any]]:
    orders = {
        "model.activation_order": (
            "original",
            "norm_after_addition",
            "relu_before_addition",
            "relu_only_preactivation",
            "full_preactivation",
        )
    }
    if form == "small":
        return product(orders, {"seed": range(3)})
    nets = zip_(
        {
            "model.depth": (110, 164),
            "model.block": ("basic", "bottleneck"),
            "model.shortcut": ("A", "B"),
        }
    )
    return product(nets, orders, {"seed": range(5)})
