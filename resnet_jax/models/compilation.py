"""How these networks are compiled."""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax

# YNNPACK, which XLA's CPU backend calls by default from jaxlib 0.10 on, sums batch statistics 10 to
# 30 times faster than XLA's own loops, and convolves and multiplies up to four times slower.
_ON_CPU: dict[str, Any] = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}


def compiler_options(backend: str | None = None) -> dict[str, Any] | None:
    """XLA options with which these networks run fastest, for `jax.jit(…, compiler_options=…)`.

    Args:
        backend: of JAX; None: the default one.

    Example:
        >>> step = jax.jit(train_step, donate_argnums=0, compiler_options=compiler_options())
    """
    backend = backend or jax.default_backend()
    return _ON_CPU if backend == "cpu" and _known(backend) else None


@cache
def _known(backend: str) -> bool:
    """Whether this jaxlib has these options; debug options of XLA come and go."""
    lowered = jax.jit(lambda: 0, backend=backend).lower()
    try:
        lowered.compile(compiler_options=_ON_CPU)
    except jax.errors.JaxRuntimeError:
        return False
    return True


def compile_for_initialisation(function: Callable[..., Any]) -> Callable[..., Any]:
    """`jax.jit` for a function that draws weights.

    On a CPU nearly all of the time goes into compiling the random generator, once a layer; without
    optimisation that is several times faster, and the numbers are the same.
    """
    fast = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    return jax.jit(function, compiler_options=fast)
