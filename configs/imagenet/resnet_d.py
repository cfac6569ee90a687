"""He et al. 2019, "Bag of Tricks for Image Classification": ResNet-50-D on ImageNet.

    python launch.py prepare imagenet2012 --manual_dir=DIRECTORY_OF_THE_TAR_FILES
    python launch.py train --config=configs/imagenet/resnet_d.py --workdir=runs/resnet_d

Top-1 accuracy in the paper without distillation (Table 6): 79.15% in 200 epochs with mixup, and in 120
epochs without it 78.31%: `--config.train.mixup=0 --config.train.duration="120 epochs"`. Not run by this
project: it needs accelerators.
"""

from ml_collections import ConfigDict

from resnet_jax.config import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.model.family = "imagenet"
    config.model.depth = 50
    config.model.stem = "deep"
    config.model.shortcut = "D"
    config.model.branch_init = "zero_gamma"
    config.model.dtype = "bfloat16"
    config.data.name = "imagenet2012"
    config.data.image_size = 224
    config.data.crop_fraction = 0.875
    config.data.random_resized_crop = True
    config.data.placement = "stream"
    config.data.flip = True
    config.data.brightness = 0.4
    config.data.contrast = 0.4
    config.data.saturation = 0.4
    config.data.pca_noise = 0.1
    config.train.duration = "200 epochs"
    config.train.batch_size = 1024
    config.train.label_smoothing = 0.1
    config.train.mixup = 0.2
    config.optimizer.learning_rate = 0.1
    config.optimizer.reference_batch_size = 256
    config.optimizer.nesterov = True
    config.optimizer.weight_decay = 1e-4
    config.optimizer.decay_norm_and_bias = False
    config.schedule.name = "cosine"
    config.schedule.warmup = "5 epochs"
    config.log.every = "100 steps"
    return config
