"""Plain and residual nets of 20 and 56 layers for the analyses of docs/why_it_works.md.

    python launch.py sweep   --config=configs/why_it_works.py --workdir=runs/why
    python launch.py analyze lesion --workdir runs/why/runs/* --out=runs/why/analysis

CIFAR-10 at 16×16 pixels, where two CPU cores train 20 layers at about 1,000 and 56 at about 330 images
a second; five epochs. Every checkpoint is kept, one each half epoch, for the trajectories of `analyze
landscape`. The recipe is that of He et al. 2015 but for the images' size, the length, a warm-up and the
cosine schedule.
"""

from typing import Any

from ml_collections import ConfigDict

from resnet_jax.config import default_config
from resnet_jax.sweeps.grid import chain, product


def get_config() -> ConfigDict:
    config = default_config()
    config.data.name = "cifar10"
    config.data.image_size = 16
    config.data.pad = 2
    config.data.flip = True
    config.train.duration = "5 epochs"
    config.train.batch_size = 128
    config.optimizer.learning_rate = 0.1
    config.optimizer.weight_decay = 1e-4
    config.schedule.name = "cosine"
    config.schedule.warmup = "1 epoch"
    config.log.every = "0.5 epochs"
    config.checkpoint.every = "0.5 epochs"
    config.checkpoint.keep_last = 20
    return config


def sweep() -> list[dict[str, Any]]:
    # The last two are for ensembles.
    return chain(
        product({"model.depth": (20, 56)}, {"model.shortcut": ("A", "none")}),
        product({"model.depth": (20,)}, {"model.shortcut": ("A",)}, {"seed": (1, 2)}),
    )
