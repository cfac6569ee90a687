"""Compiled programs kept on disk: a second start finds them."""

import os
import warnings
from pathlib import Path

from ml_collections import ConfigDict

from resnet_jax.paths import is_utf8


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
        path = str(directory.absolute())
        jax.config.update("jax_compilation_cache_dir", path)
        if not is_utf8(path):
            # XLA would get the path for caches of its own, and takes UTF-8 alone. Not an `OpenDirectory`:
            # the path is a part of the key of every program.
            jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
        # One each of many small programs; all that is lost is time.
        failed = "Error (reading|writing) persistent compilation cache entry"
        warnings.filterwarnings("ignore", message=failed)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
