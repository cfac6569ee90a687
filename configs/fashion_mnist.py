"""A small ResNet on Fashion-MNIST: above 90% test accuracy in minutes on a laptop CPU.

    python launch.py prepare fashion_mnist --manual_dir=DIRECTORY_OF_THE_GZ_FILES
    python launch.py train --config=configs/fashion_mnist.py --workdir=runs/fashion_mnist

docs/results.md has the curve of this run.
"""

from ml_collections import ConfigDict

from resnet_jax.config import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.model.depth = 8
    config.data.name = "fashion_mnist"
    config.data.pad = 2
    config.data.flip = True
    config.train.duration = "7 epochs"
    config.train.batch_size = 128
    config.optimizer.learning_rate = 0.1
    config.optimizer.nesterov = True
    config.optimizer.weight_decay = 5e-4
    config.optimizer.decay_norm_and_bias = False
    config.schedule.name = "cosine"
    config.schedule.warmup = "0.5 epochs"
    return config
