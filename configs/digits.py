"""ResNet-8 on scikit-learn's handwritten digits: the embedded example, under a minute on a laptop.

python launch.py train --config=configs/digits.py --workdir=runs/digits
"""

from ml_collections import ConfigDict

from resnet_jax.config import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.model.depth = 8
    config.data.name = "digits"
    config.data.pad = 1
    config.train.duration = "40 epochs"
    config.train.batch_size = 64
    config.optimizer.learning_rate = 0.1
    config.optimizer.nesterov = True
    config.schedule.name = "cosine"
    config.schedule.warmup = "1 epoch"
    config.evaluate.every = "5 epochs"
    config.checkpoint.every = "5 epochs"
    return config
