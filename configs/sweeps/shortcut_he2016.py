"""What may stand on the skip path: scaling, gates, convolutions, dropout.

    python launch.py sweep --config=configs/sweeps/shortcut_he2016.py --workdir=runs/skip_path
    python launch.py sweep --config=configs/sweeps/shortcut_he2016.py:full --workdir=runs/skip_path_full

He et al. 2016, Table 1: ResNet-110 on CIFAR-10, test error in %, median of five runs; "fail" is above 20.
Small: 44 layers, six epochs of digits, three seeds; error of the last epoch in %, mean ± std, n = 3.

                                     paper         small: training    test
    original                         6.61           3.5 ± 1.0         2.4 ± 1.1
    plain (scaling 0/1)              fail            65 ± 3            68 ± 5
    constant scaling 0.5/0.5         12.35           41 ± 4            38 ± 4
    constant scaling 0.5/1           fail            52 ± 7            49 ± 10
    exclusive gating, bias −6        8.70            75 ± 1            63 ± 2
    exclusive gating, bias 0         fail            78 ± 5            80 ± 2
    shortcut-only gating, bias 0     12.86           58 ± 9            56 ± 10
    shortcut-only gating, bias −6    6.91           4.9 ± 0.6         3.2 ± 0.4
    1×1 convolution                  12.22           37 ± 5            31 ± 7
    dropout 0.5                      fail            90 ± 0.1          90 ± 1

The two that keep the identity, original and shortcut-only gating with bias −6, are the best in both;
all else is far worse. Exclusive gating with bias −6 fails here: its branches begin at σ(−6) =
0.0025 of their size, and six epochs are too few to open them. The differences among those that
fail are no finding (n = 3). The sweep took 11 min 5 s on two CPU cores.

Scales of 0.5, a gate bias of −6 and a dropout rate of 0.5 are the defaults, so each kind differs from the original
in the shortcut alone, and a variant (scaling 0.5/1, bias 0) differs from its kind in that field alone; the report
compares those pairs, and names both fields for a variant against the original.

Full: the paper's recipe, five seeds; exclusive gating with biases 0, −3, −5 (fail), −6 and −7
(9.81). The warm-up rises along a line from 0.01 to 0.1 in 400 iterations. Not run by this project yet:
it needs an accelerator.
"""

from typing import Any

from ml_collections import ConfigDict

from resnet_jax.config import default_config
from resnet_jax.sweeps.grid import chain, product

FORMS = ("small", "full")


def get_config(form: str = "small") -> ConfigDict:
    config = default_config()
    if form == "small":
        config.model.depth = 44
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
    config.model.depth = 110
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
    # Each kind with the paper's usual value of its field, which is the default, so that it differs from
    # the original in the shortcut alone; then the other values of that field.
    kinds = {
        "model.shortcut": (
            *("A", "none", "constant_scaling", "exclusive_gating", "shortcut_only_gating"),
            *("C", "dropout"),
        )
    }
    exclusive_biases = {"small": (0.0,), "full": (0.0, -3.0, -5.0, -7.0)}[form]
    others = chain(
        {"model.shortcut": ("constant_scaling",), "model.branch_scale": (1.0,)},
        {"model.shortcut": ("exclusive_gating",), "model.gate_bias": exclusive_biases},
        {"model.shortcut": ("shortcut_only_gating",), "model.gate_bias": (0.0,)},
    )
    seeds = {"small": range(3), "full": range(5)}[form]
    return product(chain(kinds, others), {"seed": seeds})
