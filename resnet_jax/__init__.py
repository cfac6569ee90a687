"""A JAX/Flax framework for training and studying residual networks."""

import sys

from resnet_jax.compiler import warn_of_ynnpack

__version__ = "0.1.0"

# Our own commands import JAX later, after they have turned it off.
if "jax" in sys.modules:
    warn_of_ynnpack()
