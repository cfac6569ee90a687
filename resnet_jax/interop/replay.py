"""Run a traced program again with some operations put differently, for converters that know fewer."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend import core


def replay(program: core.ClosedJaxpr, arguments: Sequence[Any]) -> list[Any]:
    """Run a traced program with what jax2onnx cannot convert, or converts wrongly, put differently.

    jax2onnx traces by its own substitutes for Flax's layers, and that for `nnx.Conv` leaves out the
    standardisation of weights. A program that was traced before holds only operations of `jax.lax`.
    What depends on weights alone is computed here, and loops are unrolled.
    """
    values = dict(zip(program.jaxpr.constvars, program.consts, strict=True))
    values.update(zip(program.jaxpr.invars, arguments, strict=True))

    def read(variable: Any) -> Any:
        return variable.val if isinstance(variable, core.Literal) else values[variable]

    for equation in program.jaxpr.eqns:
        results = _replay_equation(equation, [read(v) for v in equation.invars])
        values.update(zip(equation.outvars, results, strict=True))
    return [read(v) for v in program.jaxpr.outvars]


def _replay_equation(equation: Any, inputs: Sequence[Any]) -> Sequence[Any]:
    name, parameters = equation.primitive.name, equation.params
    if name == "scan":
        return _unroll(inputs, **parameters)
    depends_on_images = any(isinstance(value, jax.core.Tracer) for value in inputs)
    if depends_on_images and name in SUBSTITUTES:
        return [SUBSTITUTES[name](*inputs, **parameters)]
    inner = parameters.get("call_jaxpr", parameters.get("jaxpr"))
    function = inner.jaxpr.debug_info.func_name if name == "custom_jvp_call" else None
    if function in FUNCTIONS:
        return [FUNCTIONS[function](*inputs)]
    if inner is not None:
        closed = inner if isinstance(inner, core.ClosedJaxpr) else core.ClosedJaxpr(inner, ())
        return replay(closed, inputs)
    if depends_on_images:
        result = equation.primitive.bind(*inputs, **parameters)
    else:
        with jax.ensure_compile_time_eval():
            result = equation.primitive.bind(*inputs, **parameters)
    return result if equation.primitive.multiple_results else [result]


def _unroll(
    inputs: Sequence[Any], *, jaxpr: Any, length: int, num_consts: int, num_carry: int, **_: Any
) -> list[Any]:
    """`lax.scan` forwards, as straight code."""
    end = num_consts + num_carry
    consts, carry, stacked = inputs[:num_consts], inputs[num_consts:end], inputs[end:]
    outputs = []
    for index in range(length):
        with jax.ensure_compile_time_eval():
            row = [x[index] for x in stacked]
        results = replay(jaxpr, [*consts, *carry, *row])
        carry = results[:num_carry]
        outputs.append(results[num_carry:])
    return [*carry, *(jnp.stack(column) for column in zip(*outputs, strict=True))]


def _pad(x: jax.Array, value: Any, *, padding_config: Sequence[tuple[int, int, int]]) -> jax.Array:
    # jax2onnx converts `lax.pad` only where the batch size is a number, but `jnp.pad` always.
    if not any(any(axis) for axis in padding_config):
        return x
    return jnp.pad(x, [axis[:2] for axis in padding_config], constant_values=value)


def _max_pool(x: jax.Array, *, window_dimensions, window_strides, padding, **_: Any) -> jax.Array:
    # jax2onnx takes the channels of a `reduce_window_max` for a third spatial axis.
    padded = _pad(x, -jnp.inf, padding_config=[(low, high, 0) for low, high in padding])
    window, strides = window_dimensions[1:-1], window_strides[1:-1]
    return nnx.max_pool(padded, window_shape=window, strides=strides)


# Our functions for XLA's CPU backend, plainly. The first broadcasts a zero to a batch whose size is
# symbolic here, the second clamps by infinities to change nothing.
FUNCTIONS: dict[str, Callable[..., jax.Array]] = {
    "choosing_relu": lambda x: jnp.maximum(x, jnp.zeros((), x.dtype)),
    "kept_apart": lambda x: x,
}
SUBSTITUTES: dict[str, Callable[..., jax.Array]] = {"pad": _pad, "reduce_window_max": _max_pool}
