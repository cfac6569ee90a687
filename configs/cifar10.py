"""He et al. 2015, §4.2: residual nets of 6n+2 layers on CIFAR-10, 64k iterations.

    python launch.py train --config=configs/cifar10.py --workdir=runs/cifar10 --config.model.depth=20

Test errors of the paper (Table 6) on the original images: depth 20: 8.75%, 32: 7.51%, 44: 7.17%,
56: 6.97%, 110: 6.43% (best of five). The plain nets are `--config.model.shortcut=none`. Depth 110 needs
a warm-up: `--config.schedule.warmup='400 steps' --config.schedule.warmup_start_factor=0.1`. The
paper subtracts the mean of each pixel; here images are normalised by the mean and deviation of each
channel.
"""

from ml_collections import ConfigDict

from resnet_jax.config import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.model.depth = 20
    config.model.shortcut = "A"
    config.data.name = "cifar10"
    config.data.pad = 4
    config.data.flip = True
    config.train.duration = "64000 steps"
    config.train.batch_size = 128
    config.optimizer.learning_rate = 0.1
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 1e-4
    config.schedule.name = "step"
    config.schedule.boundaries = ("32000 steps", "48000 steps")
    config.schedule.factor = 0.1
    return config
