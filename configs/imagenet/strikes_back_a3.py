"""Wightman et al. 2021, "ResNet strikes back", A3: ResNet-50 on ImageNet in 100 epochs of 160 pixels.

    python launch.py prepare imagenet2012 --manual_dir=DIRECTORY_OF_THE_TAR_FILES
    python launch.py train --config=configs/imagenet/strikes_back_a3.py --workdir=runs/strikes_back_a3

Top-1 accuracy in the paper at 224 pixels: 78.1%. Not run by this project: it needs accelerators.
"""

from pathlib import Path

from ml_collections import ConfigDict

from resnet_jax.config import base_config


def get_config() -> ConfigDict:
    config = base_config(str(Path(__file__).with_name("strikes_back_a2.py")))
    config.model.survival_probability = 1.0
    config.data.image_size = 160
    config.data.repeats = 1
    config.data.rand_augment_magnitude = 6.0
    config.evaluate.image_size = 224
    config.train.duration = "100 epochs"
    config.optimizer.learning_rate = 8e-3
    config.schedule.warmup_start_factor = 0.0125
    config.schedule.final_factor = 1.25e-4
    return config
