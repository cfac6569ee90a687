"""How long the runs of a study take here: measured on two of its networks, interpolated for the others.

What is timed is what a run does, in a directory that is deleted: initialisation, steps, an evaluation,
saves. Programs are compiled as for a first run, without the cache.
"""

import itertools
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

# Steps are timed until either is reached.
MOST_STEPS = 20
SECONDS_OF_STEPS = 1.5
# Longer evaluations are taken for a third of as many images of training steps.
MOST_EVAL_BATCHES = 4
# Of the time to compile, what is left where the compilation cache has the program (tracing, lowering, reading).
CACHED = 0.4


@dataclass(frozen=True)
class Cost:
    """Seconds of a network's programs.

    Attributes:
        compile: of all programs, once in a process.
        run: what each run does once: initialising, opening its directory, reading the first save back.
        step, evaluation, save: of each.
    """

    compile: float
    run: float
    step: float
    evaluation: float
    save: float

    def of_run(self, experiment: Any) -> float:
        """Seconds of a whole run, without compilation."""
        e = experiment
        return (
            self.run
            + e.total_steps * self.step
            + math.ceil(e.total_steps / e.evaluate_every) * self.evaluation
            + math.ceil(e.total_steps / e.checkpoint_every) * self.save
        )


def costs(experiments: Sequence[Any]) -> list[Cost]:
    """The cost of each of these experiments; the ones with the cheapest and the dearest step are timed."""
    sizes = [(e.macs * e.config.train.batch_size, _leaves(e)) for e in experiments]
    order = sorted(range(len(experiments)), key=sizes.__getitem__)
    ends = [order[0], order[-1]] if sizes[order[0]] != sizes[order[-1]] else order[:1]
    timed = [measure(experiments[index]) for index in ends]
    if len(timed) == 1:
        return timed * len(experiments)
    by_work, by_leaves = (
        [
            _line([sizes[i][axis] for i in ends], pair)
            for pair in zip(*map(astuple, timed), strict=True)
        ]
        for axis in (0, 1)
    )
    lines = (*by_leaves[:2], *by_work[2:4], by_leaves[4])
    return [
        Cost(*(line(leaves if at in (0, 1, 4) else work) for at, line in enumerate(lines)))
        for work, leaves in sizes
    ]


def _line(x: Sequence[float], y: Sequence[float]) -> Callable[[float], float]:
    """The line through two points, nowhere below the lower of them."""
    slope = (y[1] - y[0]) / (x[1] - x[0]) if x[1] != x[0] else 0.0
    base = y[0] if x[1] != x[0] else sum(y) / 2
    return lambda at: max(min(y), base + slope * (at - x[0]))


def _leaves(experiment: Any) -> int:
    """Arrays of the state: what compilation and saves take time for, more than their size."""
    import jax

    return len(jax.tree.leaves(experiment.state_shapes()))


def measure(experiment: Any) -> Cost:
    """Time the parts of a run."""
    import jax

    from resnet_jax.random_streams import run_key

    e, key = experiment, run_key(experiment.config.seed)
    numbers = e.placed_numbers()

    def initialise() -> Any:
        return jax.block_until_ready(e.parallel.place(e.programs.initialise(key)))

    def train(state: Any, step: int) -> Any:
        arguments = e.train_arguments(step % e.total_steps)
        return jax.block_until_ready(e.programs.training(1)(state, numbers, *arguments)[0])

    watch = _Watch()
    state = train(initialise(), 0)
    first = watch.lap()
    count = 0
    while count < MOST_STEPS and (count < 1 or watch.elapsed() < SECONDS_OF_STEPS):
        count += 1
        state = train(state, count)
    step = watch.lap() / count
    evaluated, evaluation = _time_evaluation(e, state, numbers, step)
    watch.lap()
    saved, save = _time_saves(e.parallel.take(state))
    watch.lap()
    initialise()
    initialised = watch.lap()
    compiling = first - step - initialised + evaluated
    return Cost(max(0.0, compiling), initialised + saved, step, evaluation, save)


def _time_evaluation(e: Any, state: Any, numbers: Any, step: float) -> tuple[float, float]:
    """Seconds to compile the evaluation, and of one."""
    watch, images, evaluate = _Watch(), len(e.inputs.eval_examples), e.programs.evaluate
    if images > MOST_EVAL_BATCHES * e.config.evaluate.batch_size:
        asked = itertools.count()
        # It is left before its second batch.
        evaluate(state, numbers, lambda: next(asked) > 0)
        return watch.lap(), images * step / (3 * e.config.train.batch_size)
    evaluate(state, numbers)
    first = watch.lap()
    evaluate(state, numbers)
    again = watch.lap()
    return max(0.0, first - again), again


def _time_saves(state: Any) -> tuple[float, float]:
    """Seconds of opening a directory, its first save and closing it, and of another save."""
    from resnet_jax.training.checkpoint import Checkpoints

    watch = _Watch()
    with tempfile.TemporaryDirectory() as directory:
        watch.lap()
        with Checkpoints(Path(directory) / "checkpoints", {}) as checkpoints:
            checkpoints.save(1, state, {})
            checkpoints.wait()
            first = watch.lap()
            checkpoints.save(2, state, {})
            checkpoints.wait()
            save = watch.lap()
        first += watch.lap()
    return max(0.0, first - save), save


class _Watch:
    """A stopwatch."""

    def __init__(self) -> None:
        self.start = time.perf_counter()

    def elapsed(self) -> float:
        """Seconds since the last lap."""
        return time.perf_counter() - self.start

    def lap(self) -> float:
        """Seconds since the last lap; starts another."""
        seconds = self.elapsed()
        self.start += seconds
        return seconds
