"""Zagoruyko & Komodakis 2016: WRN-28-10 on CIFAR-10, 200 epochs.

    python launch.py train --config=configs/wide_resnet.py --workdir=runs/wrn28_10

Test errors of the paper (Tables 5 and 6) on the original images: 4.00%, and 3.89% with
`--config.model.dropout=0.3`. Not run by this project yet: it needs an accelerator. A small one for a CPU:
`--config.model.depth=10 --config.model.width_factor=1`.
"""

from ml_collections import ConfigDict

from resnet_jax.config import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.model.family = "wide"
    config.model.depth = 28
    config.model.width_factor = 10
    config.data.name = "cifar10"
    config.data.pad = 4
    config.data.flip = True
    config.train.duration = "200 epochs"
    config.train.batch_size = 128
    config.optimizer.learning_rate = 0.1
    config.optimizer.nesterov = True
    config.optimizer.weight_decay = 5e-4
    config.schedule.name = "step"
    config.schedule.boundaries = ("60 epochs", "120 epochs", "160 epochs")
    config.schedule.factor = 0.2
    return config
