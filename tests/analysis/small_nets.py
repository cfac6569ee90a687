"""Small networks of random arrays, made without compiling an initialisation."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from resnet_jax import models


def random_net(dtype=jnp.float32, **options):
    """A two-stage ResNet in eval mode, none of whose arrays is at its usual start.

    Args:
        dtype: of all arrays and of the computation.
        **options: of `models.ResNet`, instead of those below.
    """

    def build():
        usual = {
            "num_classes": 5,
            "stem": "cifar",
            "stage_sizes": (3, 3),
            "widths": (4, 8),
            "shortcut": "A",
            "scan_blocks": False,
        }
        return models.ResNet(**(usual | options), dtype=dtype, rngs=nnx.Rngs(0))

    rng = np.random.default_rng(0)

    def fill(path, array):
        # Variances are positive, weights of either sign.
        low = -0.4 if "kernel" in jax.tree_util.keystr(path) else 0.3
        return jnp.asarray(rng.uniform(low, 0.5, array.shape), dtype)

    graph, state = nnx.split(nnx.eval_shape(build))
    return models.evaluation_view(nnx.merge(graph, jax.tree_util.tree_map_with_path(fill, state)))
