"""A JAX/Flax framework for training and studying residual networks."""

__version__ = "0.1.0"
