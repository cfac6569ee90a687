"""torchvision's second recipe (Vryniotis 2021): ResNet-50 on ImageNet in 600 epochs of 176 pixels.

    python launch.py prepare imagenet2012 --manual_dir=DIRECTORY_OF_THE_TAR_FILES
    python launch.py train --config=configs/imagenet/torchvision_v2.py --workdir=runs/torchvision_v2

Top-1 accuracy of the published weights (`IMAGENET1K_V2`) at 224 pixels: 80.858%. Not run by this
project: it needs accelerators. docs/recipes.md says where details differ from torchvision's script.
"""

from ml_collections import ConfigDict

from resnet_jax.config import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.model.family = "imagenet"
    config.model.depth = 50
    config.data.name = "imagenet2012"
    config.data.image_size = 176
    config.data.crop_fraction = 224 / 232
    config.data.random_resized_crop = True
    config.data.placement = "stream"
    config.data.repeats = 4
    config.data.flip = True
    config.data.policy = "trivial_augment_wide"
    config.data.erase = 0.1
    config.evaluate.image_size = 224
    config.train.duration = "600 epochs"
    config.train.batch_size = 1024
    config.train.label_smoothing = 0.1
    config.train.mixup = 0.2
    config.train.cutmix = 1.0
    # torchvision's 0.99998, adjusted as by its script: to batch size, steps between updates, epochs.
    config.train.ema_decay = 1 - 2e-5 * 1024 * 32 / 600
    config.train.ema_warmup = True
    config.train.ema_every = 32
    config.optimizer.learning_rate = 0.5
    config.optimizer.weight_decay = 2e-5
    config.optimizer.decay_norm_and_bias = False
    config.schedule.name = "cosine"
    config.schedule.warmup = "5 epochs"
    config.schedule.warmup_start_factor = 0.01
    config.log.every = "100 steps"
    return config
