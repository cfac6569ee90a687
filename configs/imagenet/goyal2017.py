"""Goyal et al. 2017: ResNet-50 on ImageNet in 90 epochs, at any batch size by the linear rule.

    python launch.py prepare imagenet2012 --manual_dir=DIRECTORY_OF_THE_TAR_FILES
    python launch.py train --config=configs/imagenet/goyal2017.py --workdir=runs/imagenet --config.train.batch_size=1024

Top-1 validation error in the paper: 23.60 ± 0.12% at batch size 256, 23.74 ± 0.09% at 8,192
(Tables 1 and 2). Not run by this project yet: it needs accelerators.
"""

from ml_collections import ConfigDict

from resnet_jax.config import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.model.family = "imagenet"
    config.model.depth = 50
    config.model.branch_init = "zero_gamma"
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
    config.log.every = "100 steps"
    return config
