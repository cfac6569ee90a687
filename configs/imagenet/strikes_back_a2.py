"""Wightman et al. 2021, "ResNet strikes back", A2: ResNet-50 on ImageNet in 300 epochs.

    python launch.py prepare imagenet2012 --manual_dir=DIRECTORY_OF_THE_TAR_FILES
    python launch.py train --config=configs/imagenet/strikes_back_a2.py --workdir=runs/strikes_back_a2

Top-1 accuracy in the paper at 224 pixels: 79.8%. Not run by this project: it needs accelerators.
"""

from pathlib import Path

from ml_collections import ConfigDict

from resnet_jax.config import base_config


def get_config() -> ConfigDict:
    config = base_config(str(Path(__file__).with_name("strikes_back_a1.py")))
    config.train.duration = "300 epochs"
    config.train.label_smoothing = 0.0
    config.train.mixup = 0.1
    config.optimizer.weight_decay = 0.02
    return config
