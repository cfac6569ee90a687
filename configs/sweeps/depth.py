"""The degradation experiment: training error of plain and residual nets by depth.

    python launch.py sweep --config=configs/sweeps/depth.py --workdir=runs/depth
    python launch.py sweep --config=configs/sweeps/depth.py:full --workdir=runs/depth_full

He et al. 2015, Fig. 6: on CIFAR-10, plain nets of 20, 32, 44 and 56 layers have a higher training
error the deeper they are, and plain-110 stays above 60%; residual nets get no worse. Test errors of
the residual nets (Table 6): 8.75, 7.51, 7.17, 6.97 and 6.43% (110: best of five; 6.61 ± 0.16).

Small: six epochs of scikit-learn's digits, 1,437 images of 8×8; plain nets and option A, five seeds.
Training error of the last epoch in %, mean ± std (95% interval by t), n = 5:

    depth          8                  20                  32                  44
    plain     4.3 ± 0.6 (3.5–5.1)  9.4 ± 2.8 (5.9–12.9)  34 ± 7 (25–43)      65 ± 3 (62–69)
    residual  3.9 ± 0.4 (3.4–4.3)  2.9 ± 0.3 (2.5–3.3)   2.9 ± 0.6 (2.2–3.6) 3.8 ± 0.8 (2.7–4.8)

The test errors go the same way (plain-44 66%, residual-44 2.3%). The sweep took 10 min 11 s on two CPU
cores, of which it used one; docs/sweeps.md shows its page.

Rate and depths were chosen by trial runs (seed 0) for residual nets that train well in six epochs. They do
not at every setting: at a rate of 0.1 the residual nets of 44 and 56 layers ended at 8.8 and 13.3% (plain:
66 and 88%), and 56 layers at 0.03 at 6.0% (plain: 78%), n = 1.

Full: the paper's recipe and depths, five seeds each; 110 layers rise along a line from a rate of
0.01 to 0.1 in the first 400 iterations (in the paper the step is at once). Not run by this project
yet: it needs an accelerator.
"""

from typing import Any

from ml_collections import ConfigDict

from resnet_jax.config import default_config
from resnet_jax.sweeps.grid import chain, product

FORMS = ("small", "full")


def get_config(form: str = "small") -> ConfigDict:
    config = default_config()
    if form == "small":
        config.data.name = "digits"
        config.data.pad = 1
        config.train.duration = "6 epochs"
        config.train.batch_size = 64
        config.optimizer.learning_rate = 0.03
        config.optimizer.nesterov = True
        config.schedule.name = "cosine"
        config.schedule.warmup = "1 epoch"
        config.log.every = "1 epoch"
        config.checkpoint.every = "6 epochs"
        return config
    config.data.name = "cifar10"
    config.data.pad = 4
    config.data.flip = True
    config.train.duration = "64000 steps"
    config.train.batch_size = 128
    config.optimizer.learning_rate = 0.1
    config.schedule.name = "step"
    config.schedule.boundaries = ("32000 steps", "48000 steps")
    config.log.every = "1 epoch"
    return config


def sweep(form: str = "small") -> list[dict[str, Any]]:
    kinds = {"model.shortcut": ("none", "A")}
    seeds = {"seed": range(5)}
    if form == "small":
        return product({"model.depth": (8, 20, 32, 44)}, kinds, seeds)
    return chain(
        product({"model.depth": (20, 32, 44, 56)}, kinds, seeds),
        product(
            {"model.depth": (110,)},
            kinds,
            seeds,
            {"schedule.warmup": ("400 steps",), "schedule.warmup_start_factor": (0.1,)},
        ),
    )
