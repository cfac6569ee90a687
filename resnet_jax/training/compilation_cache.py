"""Compiled programs kept on disk: a second start finds them.

They are machine code, which JAX loads and runs. So they are taken only from a directory that the user
has named in this command or that is the user's by default, and where nobody else can write; never
from the directory of a run or sweep, which may come from somebody else.
"""

import os
import warnings

from resnet_jax.config import Config
from resnet_jax.errors import warn
from resnet_jax.paths import NoHomeError, is_utf8
from resnet_jax.private_directory import private_directory


def keep_compiled_programs(config: Config) -> None:
    """Tell JAX where to keep compiled programs, unless the environment did.

    Where others could put programs of theirs there, none are kept, and a warning says so.

    Args:
        config: whose `data.cache_dir` they lie in; of a run directory, as `RunDirectory.load_config`
            returns it.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import jax

    from resnet_jax.data.cache import cache_directory

    if jax.config.jax_compilation_cache_dir is not None:  # type: ignore[attr-defined]
        return
    try:
        path = str(private_directory(cache_directory(config.data.cache_dir) / "compiled"))
    except (OSError, NoHomeError) as error:
        warn(f"compiled programs are not kept on disk: {error}")
        return
    jax.config.update("jax_compilation_cache_dir", path)
    if not is_utf8(path):
        # XLA would get the path for caches of its own, and takes UTF-8 alone. Not an `OpenDirectory`:
        # the path is a part of the key of every program.
        jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
    # A warning for each of many small programs, where only time is lost.
    failed = "Error (reading|writing) persistent compilation cache entry"
    warnings.filterwarnings("ignore", message=failed)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
