"""How these networks are compiled."""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax

# YNNPACK, which XLA's CPU backend calls by default from jaxlib 0.10 on, sums batch statistics 10 to
# 30 times faster than XLA's own loops, and convolves and multiplies up to four times slower.
_CPU_OPTIONS: dict[str, Any] = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"
}


def compiler_options() -> dict[str, Any] | None:
    """XLA options with which these networks run fastest on the default backend.

    For `jax.jit(…, compiler_options=…)`, which JAX allows at the outermost `jit` alone, and not for
    `jax.pmap`. None where there are none to give.

    Example:
        >>> step = jax.jit(train_step, donate_argnums=0, compiler_options=compiler_options())
    """
    return dict(_CPU_OPTIONS) if jax.default_backend() == "cpu" and _known() else None


@cache
def _known() -> bool:
    """Whether this jaxlib has these options; debug options of XLA come and go."""
    try:
        jax.jit(lambda: 0).lower().compile(compiler_options=_CPU_OPTIONS)
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
