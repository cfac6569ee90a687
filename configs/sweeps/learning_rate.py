"""The learning rate on a logarithmic grid; all runs share one compiled program.

    python launch.py sweep --config=configs/sweeps/learning_rate.py --workdir=runs/learning_rate
    python launch.py sweep --config=configs/sweeps/learning_rate.py:full --workdir=runs/learning_rate_full

Small: ResNet-8, eight epochs of digits, no warm-up, three seeds. Training error of the last epoch in %,
mean ± std, n = 3:

    rate    0.001     0.003     0.01       0.03       0.1          0.3          1         3
    error   53 ± 3    26 ± 4    7.7 ± 0.7  2.5 ± 0.3  1.14 ± 0.07  1.51 ± 0.11  22 ± 1    54 ± 25

A run took about 4 s on one core of a busy machine.

Full: ResNet-20 on CIFAR-10 by the recipe of He et al. 2015, §4.2, who use 0.1 (test error 8.75%,
Table 6). Not run by this project yet: it needs an accelerator.
"""

from typing import Any

from ml_collections import ConfigDict

from resnet_jax.config import default_config
from resnet_jax.sweeps.grid import product

FORMS = ("small", "full")


def get_config(form: str = "small") -> ConfigDict:
    config = default_config()
    if form == "small":
        config.model.depth = 8
        config.data.name = "digits"
        config.data.pad = 1
        config.train.duration = "8 epochs"
        config.train.batch_size = 64
        config.optimizer.nesterov = True
        config.schedule.name = "cosine"
        config.log.every = "1 epoch"
        config.checkpoint.every = "8 epochs"
        return config
    config.model.depth = 20
    config.data.name = "cifar10"
    config.data.pad = 4
    config.data.flip = True
    config.train.duration = "64000 steps"
    config.train.batch_size = 128
    config.schedule.name = "step"
    config.schedule.boundaries = ("32000 steps", "48000 steps")
    config.log.every = "1 epoch"
    return config


def sweep(form: str = "small") -> list[dict[str, Any]]:
    rates = {
        "small": (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0),
        "full": (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0),
    }[form]
    return product({"optimizer.learning_rate": rates}, {"seed": range(3)})
