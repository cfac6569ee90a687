"""Which fusions XLA's CPU backend gives to YNNPACK, and whether they are among those known to be right."""

import re
from collections.abc import Iterator, Sequence

FUSION = '"kind":"__ynn_fusion"'
# Sums of these were compared with float64, for NaN and infinities too. Not among them: products,
# convolutions and windows, which are wrong for some shapes, and maxima and minima, which lose NaN.
RIGHT = frozenset(
    [
        "abs",
        "add",
        "bitcast",
        "broadcast",
        "ceil",
        "constant",
        "convert",
        "divide",
        "erf",
        "exponential",
        "exponential-minus-one",
        "floor",
        "log",
        "log-plus-one",
        "logistic",
        "multiply",
        "negate",
        "parameter",
        "power",
        "reduce",
        "round-nearest-even",
        "rsqrt",
        "sign",
        "sqrt",
        "subtract",
        "tanh",
    ]
)
# Seven end the process.
MOST_AXES = 6

NAME = r"%[\w.-]+"
INSTRUCTION = re.compile(rf"  (?:ROOT )?{NAME} = \w+\[([\d,]*)\]\S* ([a-z0-9-]+)\(")
Computations = dict[str, list[str]]


def misused(text: str) -> str | None:
    """The first operation that YNNPACK is given in a program and may compute wrongly; None: there is none.

    Args:
        text: the optimised program, as `jax.stages.Compiled.as_text` returns it.

    Returns:
        Its name in HLO, or what else is wrong.
    """
    if FUSION not in text:
        return None
    computations = dict(_computations(text))
    for body in computations.values():
        for line in body:
            if FUSION in line:
                problem = _misused(line, body, computations)
                if problem is not None:
                    return problem
    return None


def _computations(text: str) -> Iterator[tuple[str, list[str]]]:
    """Name and instructions of each computation."""
    name, body = "", list[str]()
    for line in text.splitlines():
        if line.endswith("{") and not line.startswith(" "):
            name, body = line.removeprefix("ENTRY ").split()[0], []
        elif line.startswith("}"):
            yield name, body
        elif line.startswith("  "):
            body.append(line)


def _misused(call: str, body: Sequence[str], computations: Computations) -> str | None:
    """As `misused`, of the fusion that the line `call` of `body` calls."""
    called = re.search(rf"calls=({NAME})", call)
    fused = computations.get(called[1], []) if called else []
    found = [INSTRUCTION.match(line) for line in fused]
    if not fused or None in found:
        return "an unknown fusion"
    for instruction, line in zip(found, fused, strict=True):
        assert instruction is not None
        shape, operation = instruction.groups()
        if operation not in RIGHT:
            return operation
        if shape.count(",") >= MOST_AXES:
            return f"an array of {shape.count(',') + 1} axes"
        if operation == "reduce" and not (
            _adds(line, computations) or _keeps(line, fused, call, body)
        ):
            return "maximum or minimum"
    return None


def _adds(reduction: str, computations: Computations) -> bool:
    applied = re.search(rf"to_apply=({NAME})", reduction)
    root = computations.get(applied[1], [""])[-1] if applied else ""
    return " add(" in root


def _keeps(reduction: str, fused: Sequence[str], call: str, body: Sequence[str]) -> bool:
    """Whether the array of a maximum, which loses NaN, is read by something else too, as in a softmax."""
    array = _operands(reduction)[0]
    if _uses(array, fused) > 1:
        return True
    parameter = re.search(rf"{re.escape(array)} = .* parameter\((\d+)\)", "\n".join(fused))
    return parameter is not None and _uses(_operands(call)[int(parameter[1])], body) > 1


def _operands(line: str) -> list[str]:
    return re.findall(NAME, line.partition(" = ")[2].partition("metadata=")[0])


def _uses(name: str, body: Sequence[str]) -> int:
    return sum(name in _operands(line) for line in body)
