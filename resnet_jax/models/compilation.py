"""How these networks are compiled."""

import functools
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from resnet_jax.compiler import OPTION, has_ynnpack
from resnet_jax.models.ynnpack import misused

# YNNPACK sums batch statistics 10 to 30 times faster than XLA's own loops.
SUMS_ONLY: dict[str, str | bool] = {OPTION: "LIBRARY_FUSION_TYPE_REDUCE"}
OFF: dict[str, str | bool] = {OPTION: ""}


def checked_jit(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """`jax.jit` with the compiler options that these networks run fastest with, and with right numbers.

    On a CPU sums go to YNNPACK, and each program is checked when it is compiled: see `compile_checked`.
    It is not to be transformed, by `jax.grad` or another `jax.jit`; `function` may be. To call this asks
    for the default backend, and starts it.

    Args:
        function: of arrays.
        options: of `jax.jit`, without `static_argnums`, `static_argnames` and `compiler_options`.

    Example:
        >>> step = checked_jit(train_step, donate_argnums=0)
    """
    jitted = jax.jit(function, **options)
    return CheckedJit(jitted) if jax.default_backend() == "cpu" else jitted


class CheckedJit:
    """Calls the checked program of its arguments' shapes and shardings, compiled at their first call.

    Args:
        jitted: what `jax.jit` returned.
    """

    def __init__(self, jitted: Any) -> None:
        self._jitted = jitted
        self._programs: list[jax.stages.Compiled] = []

    def lower(self, *arguments: Any, **named: Any) -> jax.stages.Lowered:
        """As of `jax.jit`; for `compile_checked`."""
        return self._jitted.lower(*arguments, **named)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        for program in self._programs:
            try:
                return program(*arguments, **named)
            except (TypeError, ValueError):
                continue  # It is for others, which it says before it runs.
        program = compile_checked(self.lower(*arguments, **named))
        self._programs.insert(0, program)
        return program(*arguments, **named)


def compile_checked(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """Compile what `jax.jit(…).lower(…)` returned; on a CPU with YNNPACK for sums alone.

    YNNPACK computes some products, windows, maxima and arrays of seven axes wrongly, in silence. XLA may
    still give it a product together with a sum. So the compiled program is read, and where YNNPACK has anything
    but sums of expressions element by element, it is compiled again without YNNPACK, and a line on stderr
    says so.
    """
    if jax.default_backend() != "cpu" or not has_ynnpack():
        return lowered.compile()
    program = lowered.compile(compiler_options=SUMS_ONLY)
    text = program.as_text()
    problem = "a program without text" if text is None else misused(text)
    if problem is None:
        return program
    _say_once(problem)
    return lowered.compile(compiler_options=OFF)


@functools.cache
def _say_once(problem: str) -> None:
    what = "compiled without YNNPACK, which may compute it wrongly; its sums are slower"
    print(f"note: a program with {problem} is {what} (docs/performance.md)", file=sys.stderr)


def compile_for_initialisation(function: Callable[..., Any]) -> Callable[..., Any]:
    """`jax.jit` for a function that draws weights.

    On a CPU nearly all of the time goes into compiling the random generator, once a layer; without
    optimisation that is several times faster, and the numbers are the same.
    """
    if jax.default_backend() != "cpu":
        return jax.jit(function)
    without = OFF if has_ynnpack() else {}
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0} | without)


@jax.custom_jvp
def kept_apart(x: jax.Array) -> jax.Array:
    """x; on a CPU XLA does not put what computes it and what uses it into one fusion of YNNPACK.

    Args:
        x: float[...].
    """
    # YNNPACK has no choice of three, and XLA drops `lax.optimization_barrier` too early.
    if jax.default_backend() != "cpu":
        return x
    infinity = jnp.array(jnp.inf, x.dtype)
    return lax.clamp(-infinity, x, infinity)


@kept_apart.defjvp
def _derivative(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    return kept_apart(*primals), *tangents
