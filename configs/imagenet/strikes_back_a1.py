"""Wightman et al. 2021, "ResNet strikes back", A1: ResNet-50 on ImageNet in 600 epochs.

    python launch.py prepare imagenet2012 --manual_dir=DIRECTORY_OF_THE_TAR_FILES
    python launch.py train --config=configs/imagenet/strikes_back_a1.py --workdir=runs/strikes_back_a1

Top-1 accuracy in the paper at 224 pixels: 80.4%. Not run by this project: it needs accelerators.
docs/recipes.md says where details differ from the authors' code. Where a batch does not fit the devices,
`--config.train.accumulate_steps=K` takes it in K parts.
"""

from ml_collections import ConfigDict

from resnet_jax.config import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.model.family = "imagenet"
    config.model.depth = 50
    config.model.branch_init = "zero_gamma"
    config.model.survival_probability = 0.95
    config.model.stochastic_depth_scaling = "train"
    config.model.dtype = "bfloat16"
    config.data.name = "imagenet2012"
    config.data.image_size = 224
    config.data.crop_fraction = 0.95
    config.data.random_resized_crop = True
    config.data.placement = "stream"
    config.data.repeats = 3
    config.data.flip = True
    config.data.policy = "rand_augment"
    config.data.rand_augment_layers = 2
    config.data.rand_augment_magnitude = 7.0
    config.data.rand_augment_deviation = 0.5
    config.data.rand_augment_probability = 0.5
    config.train.duration = "600 epochs"
    config.train.batch_size = 2048
    config.train.loss = "binary_cross_entropy"
    config.train.label_smoothing = 0.1
    config.train.target_threshold = 0.2
    config.train.mixup = 0.2
    config.train.cutmix = 1.0
    config.train.clip_gradient_norm = 1.0
    config.optimizer.name = "lamb"
    config.optimizer.learning_rate = 5e-3
    config.optimizer.epsilon = 1e-6
    config.optimizer.weight_decay = 0.01
    config.optimizer.decay_norm_and_bias = False
    config.schedule.name = "cosine"
    config.schedule.warmup = "5 epochs"
    config.schedule.warmup_start_factor = 0.02
    config.schedule.final_factor = 2e-4
    config.log.every = "100 steps"
    return config
