"""Compiled programs kept on disk: a second start finds them."""

import os
from pathlib import Path

from ml_collections import ConfigDict

from resnet_jax.errors import UserError
from resnet_jax.training.open_directory import OpenDirectory


def keep_compiled_programs(config: ConfigDict, directory: Path | None = None) -> None:
    """Tell JAX where to keep compiled programs, unless the environment did.

    Args:
        config: whose `data.cache_dir` they lie in.
        directory: another place for them.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import jax

    from resnet_jax.data.cache import cache_directory

    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        directory = directory or cache_directory(config.data.cache_dir) / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(_path_for_jax(directory)))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _path_for_jax(directory: Path) -> Path:
    """A path that JAX takes whatever the directory's name, valid until the process ends."""
    try:
        return OpenDirectory(directory, create=True).path
    except UserError:
        # JAX goes on without it, and warns.
        return directory.absolute()
