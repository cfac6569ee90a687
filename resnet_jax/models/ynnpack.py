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
INSTRUCTION = re.compile(rf"  (?:ROOT )?{NAME} = (\w+)\[([\d,]*)\]\S* ([a-z-]+)\(")
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
    fused = computations.get(called[1]) if called else None
    found = [INSTRUCTION.match(line) for line in fused or ["unknown"]]
    operations = []
    for instruction in found:
        if instruction is None:
            return "an unknown fusion"
        _, shape, operation = instruction.groups()
        if operation not in RIGHT:
            return operation
        if shape.count(",") >= MOST_AXES:
            return f"an array of {shape.count(',') + 1} axes"
        operations.append(operation)
    reductions = re.findall(rf"to_apply=({NAME})", "\n".join(fused or ()))
    if all(_adds(computations.get(name, ())) for name in reductions):
        return None
    # The maximum of a softmax may lose NaN: they come back from the array that it is of.
    alone = (
        set(operations) <= {"parameter", "constant", "reduce"} and operations.count("reduce") == 1
    )
    return None if alone and _is_read_again(call, body) else "maximum or minimum"


def _adds(body: Sequence[str]) -> bool:
    return any(line.startswith("  ROOT") and " add(" in line for line in body)


def _is_read_again(call: str, body: Sequence[str]) -> bool:
    """Whether the array that a fusion reduces has another use."""
    operands = re.findall(NAME, call[call.index("(") : call.index(")")])
    return any(len(re.findall(rf"[(, ]{re.escape(o)}[,)]", "\n".join(body))) > 1 for o in operands)
