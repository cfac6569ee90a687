"""Imagenette at 64 pixels: ten classes of ImageNet, streamed from JPEG; a small net for a CPU.

    python launch.py prepare imagenette/320px-v2
    python launch.py train --config=configs/imagenet/imagenette.py --workdir=runs/imagenette

`--config.data.data_dir=DIRECTORY` reads a set that is prepared elsewhere, and
`--config.data.image_size=128` takes larger images. ResNet-18 with the usual ImageNet stem: 148 million
multiply-adds an image.
"""

from ml_collections import ConfigDict

from resnet_jax.config import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.model.family = "imagenet"
    config.model.depth = 18
    config.model.branch_init = "zero_gamma"
    config.data.name = "imagenette/320px-v2"
    config.data.image_size = 64
    config.data.crop_fraction = 0.875
    config.data.random_resized_crop = True
    config.data.placement = "stream"
    config.data.flip = True
    config.train.duration = "20 epochs"
    config.train.batch_size = 64
    config.train.label_smoothing = 0.1
    config.optimizer.learning_rate = 0.05
    config.optimizer.nesterov = True
    config.optimizer.weight_decay = 5e-4
    config.optimizer.decay_norm_and_bias = False
    config.schedule.name = "cosine"
    config.schedule.warmup = "1 epochs"
    config.evaluate.batch_size = 250
    config.log.every = "20 steps"
    return config
