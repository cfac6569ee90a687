"""Names that moved to `resnet_jax.config`; the last commit of this branch removes the file."""

from resnet_jax.config import (
    ConfigFile,
    differences,
    load_config,
    open_config_file,
    override,
    respell,
    same_everywhere,
)

__all__ = [
    "ConfigFile",
    "differences",
    "load_config",
    "open_config_file",
    "override",
    "respell",
    "same_everywhere",
]
