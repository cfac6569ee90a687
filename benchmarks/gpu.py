"""All measurements that need a GPU, as one Markdown table, in less than ten minutes.

    python benchmarks/gpu.py --out=gpu.json
    python benchmarks/gpu.py --tiny

Every row is measured by commands in processes of their own, one at a time, so that one which fails or
takes too long leaves the others alone; its row says why. Rows go to stderr, and all so far to --out, as
soon as they are there. Of several GPUs, choose one by CUDA_VISIBLE_DEVICES. --tiny runs everything at sizes
that say nothing, on any device: to try the script.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.measuring import markdown
from resnet_jax.data.sources import open_source
from resnet_jax.errors import UserError
from resnet_jax.training.utilisation import FLOPS_PER_MAC, peak_of

ROOT = Path(__file__).parents[1]
ITERATIONS, BATCH_SIZE = 64_000, 128  # He et al. 2015, §4.2.
STEPS_PER_CALL = 100
LEAST_ITERATIONS = 4 * STEPS_PER_CALL  # For several lines with images/s.
MACHINE = "import json; from benchmarks.measuring import machine; print(json.dumps(machine()))"


# What XLA takes of a GPU's memory in advance, others who use it lack.
SHARED = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


class NotMeasuredError(Exception):
    """A command failed or took too long; says why in one line."""


@dataclass
class Row:
    """A line of the table.

    Attributes:
        what: is measured.
        target: in words; empty: there is none.
        measured: in words.
        met: whether the target is; None: there is none, or it was not measured.
        notes: what must be known to read the numbers.
        commands: that were run.
        results: what they printed, for --out.
    """

    what: str = ""
    target: str = ""
    measured: str = "not measured"
    met: bool | None = None
    notes: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)

    def cells(self) -> list[str]:
        met = {True: "yes", False: "**no**", None: "–"}[self.met]
        return [self.what, self.target or "–", self.measured, met, "; ".join(self.notes)]


class Runner:
    """Runs commands, as long as there is time.

    Args:
        arguments: of the command line.
        directory: for what they write.
    """

    def __init__(self, arguments: argparse.Namespace, directory: Path) -> None:
        self.tiny, self.iterations = arguments.tiny, arguments.iterations
        self.runs, self.directory = arguments.runs, directory
        self._minutes, self._end = arguments.minutes, time.monotonic() + 60 * arguments.minutes

    def run(self, row: Row, words: list[str], limit: float = 240, **variables: str) -> str:
        """What `python WORDS` prints; the command is noted in the row.

        Raises:
            NotMeasuredError: it failed, or took longer than `limit` seconds or than there are.
        """
        limit = min(limit, self._end - time.monotonic())
        if limit <= 0:
            raise NotMeasuredError(f"not begun: the {self._minutes:g} minutes were over")
        row.commands.append(shlex.join(["python", *words]))
        try:
            done = subprocess.run(
                [sys.executable, *words],
                cwd=ROOT,
                env=os.environ | variables,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=limit,
            )
        except subprocess.TimeoutExpired as error:
            raise NotMeasuredError(f"given up after {limit:.0f} s") from error
        if done.returncode:
            print(done.stderr, file=sys.stderr)
            raise NotMeasuredError(f"exit code {done.returncode}: {last_line(done.stderr)}")
        return done.stdout

    def result(self, row: Row, words: list[str], limit: float = 240, **variables: str) -> Any:
        """The JSON object that `run` prints; it is kept in the row."""
        result = json.loads(self.run(row, words, limit, **variables))
        row.results.append(result)
        return result


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200].replace("|", "/") if lines else "it printed nothing"


def spread(numbers: dict[str, float], digits: int = 4) -> str:
    """The median, and the range in brackets."""
    median, low, high = (f"{numbers[n]:,.{digits}g}" for n in ("median", "min", "max"))
    return f"{median} ({low}–{high})"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--rows", nargs="+", default=list(ROWS), choices=ROWS, metavar="ROW", help=", ".join(ROWS))
    add("--minutes", type=float, default=9.5, help="for all; what has not ended then is given up")
    add("--iterations", type=int, default=ITERATIONS, help=f"fewer: reckoned for {ITERATIONS:,}")
    add("--runs", type=int, default=10, help="seeds of the row `accuracy`")
    add("--out", type=Path, help="also write rows, commands and their results here, as JSON")
    add("--tiny", action="store_true", help="sizes that say nothing, on any device")
    arguments = parser.parse_args()
    if not LEAST_ITERATIONS <= arguments.iterations <= ITERATIONS:
        parser.error(f"--iterations must be from {LEAST_ITERATIONS} to {ITERATIONS}")
    if arguments.runs < 2:
        parser.error("--runs must be 2 or more")
    if arguments.minutes <= 0:
        parser.error("--minutes must be greater than 0")
    if arguments.out and not arguments.out.parent.is_dir():
        parser.error(f"--out={arguments.out} must be in a directory that exists")
    if arguments.tiny:
        arguments.iterations, arguments.runs = 8, 2
    return arguments


def train_step(runner: Runner, row: Row) -> None:
    row.what, row.target = "resnet50 224 px bfloat16 train step, batch 256", "≥ 1.0 × torch.compile"
    sizes = {"--model": "resnet50", "--image_size": 224, "--batch_size": 256, "--steps": 20}
    sizes |= {"--repeats": 7, "--dtype": "bfloat16"}
    if runner.tiny:
        sizes |= {"--model": "resnet20", "--image_size": 8, "--batch_size": 4, "--steps": 1}
        sizes |= {"--repeats": 2, "--dtype": "float32"}
    words = ["benchmarks/train_step.py", *(f"{name}={value}" for name, value in sizes.items())]
    try:
        compiled = [] if runner.tiny else ["--compile"]
        result = runner.result(row, [*words, "--against", "torch", *compiled], **SHARED)
    except NotMeasuredError as error:
        row.notes.append(f"with torch: {error}")
        result = runner.result(row, [*words, "--against"], **SHARED)
    speeds = result["images_per_second"]
    ours, other = speeds["ours"], speeds.get("torch")
    row.measured = f"{spread(ours)} images/s"
    if other:
        ratios = result["ours_over_torch"]
        row.met = ratios["median"] >= 1
        row.measured = f"**{spread(ratios, 3)}**: {row.measured}, torch {spread(other)}"
        row.notes.append(f"{result['repeats']} rounds in turn, channels_last, autocast")
    elif not row.notes:
        row.notes.append("no torch for this device is installed")
    peak = peak_of(result["machine"]["device"], result["dtype"])
    if peak:
        flops = FLOPS_PER_MAC * result["macs"]
        mfus = {name: flops * speed / peak for name, speed in ours.items() if name != "n"}
        row.measured += f"; MFU {spread(mfus, 2)}"
        row.notes.append(f"MFU: {flops / 1e9:.1f} GFLOP an image, peak {peak / 1e12:g} TFLOP/s")


def data_of(runner: Runner, row: Row) -> str:
    """`cifar10` where it is prepared; else random images, and a note."""
    if not runner.tiny:
        try:
            open_source("cifar10")
            return "cifar10"
        except (UserError, ImportError) as error:
            row.notes.append(
                f"on random images, as cifar10 cannot be read: {last_line(str(error))}"
            )
    return "synthetic"


def accuracy(runner: Runner, row: Row) -> None:
    row.what, row.target = (
        "CIFAR-10 to 94%, `configs/cifar10_fast.py`",
        "≤ 10 s after compilation, mean ≥ 94%",
    )
    data = data_of(runner, row)
    fields = [f"data.name={data}"]
    if runner.tiny:
        small = {"model.dtype": "float32", "model.depth": 10, "model.width_factor": 1}
        small |= {"train.duration": 4, "train.steps_per_call": 2, "train.batch_size": 8}
        small |= {"log.every": 2, "evaluate.every": 4, "checkpoint.every": 4, "schedule.warmup": 2}
        fields += [f"{name}={value}" for name, value in small.items()]
    words = ["benchmarks/seconds_to_accuracy.py", "--config=configs/cifar10_fast.py"]
    # One command for all seeds, as they share what the first compiles.
    words += [f"--runs={runner.runs}", "--set", *fields]
    result = runner.result(row, words, limit=400)
    seconds, found = result["seconds"], result["accuracy"]
    row.measured = f"**{spread(seconds, 3)} s**"
    diverged = result["accuracies"].count(None)
    if diverged:
        row.notes.append(f"{diverged} of {runner.runs} diverged")
    if data == "cifar10" and found:
        mean, low, high = (f"{100 * found[name]:.2f}" for name in ("mean", "min", "max"))
        deviation = "" if found["std"] is None else f" ± {100 * found['std']:.2f}"
        row.measured += f", accuracy **{mean}{deviation}%** ({low}–{high})"
    row.notes.append(
        f"n = {runner.runs} seeds, mean ± std; a first run, with compilation: "
        f"{result['seconds_of_the_first']:.1f} s"
    )
    if data == "cifar10":
        reached = not diverged and found["mean"] >= 0.94
        row.met = reached and seconds["median"] <= 10


def paper_iterations(runner: Runner, row: Row) -> None:
    row.what, row.target = (
        f"resnet20 on CIFAR-10, {ITERATIONS:,} iterations, `launch.py train`",
        "≤ 120 s",
    )
    workdir, iterations = runner.directory / "resnet20", runner.iterations
    per_call = 2 if runner.tiny else STEPS_PER_CALL
    fields = {"data.name": data_of(runner, row), "train.duration": iterations}
    # Whole calls between what is due; the first line may have no images/s.
    log_every = min(1000, iterations // 4 // per_call * per_call)
    fields |= {"train.steps_per_call": per_call, "log.every": log_every, "evaluate.every": 4000}
    fields |= {"checkpoint.every": ITERATIONS}
    if runner.tiny:
        fields |= {"model.depth": 8}
    options = [f"--config.{name}={value}" for name, value in fields.items()]
    words = ["launch.py", "train", "--config=configs/cifar10.py", f"--workdir={workdir}", *options]
    # Programs that an earlier run compiled would be found.
    cache = {"JAX_COMPILATION_CACHE_DIR": str(runner.directory / "cache_of_resnet20")}
    start = time.monotonic()
    runner.run(row, words, **cache)
    seconds = time.monotonic() - start
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    row.results.append({"seconds": round(seconds, 2), "metrics": lines})
    measured = f"**{seconds:.1f} s**"
    if iterations < ITERATIONS:
        # The first call has none, as it compiles.
        speeds = [line["images_per_second"] for line in lines if line.get("images_per_second")]
        speed = statistics.median(speeds)
        seconds += (ITERATIONS - iterations) * BATCH_SIZE / speed
        measured = f"**{seconds:.0f} s, extrapolated**"
        row.notes.append(
            f"only {iterations:,} iterations were run; the others reckoned at the median of "
            f"{speed:,.0f} images/s, without evaluations"
        )
    row.notes.append("whole process, n = 1: start-up, compilation, evaluations, checkpoint")
    if lines[-1]["event"] == "eval" and fields["data.name"] == "cifar10":
        row.notes.append(f"test error at its end {100 * (1 - lines[-1]['accuracy']):.2f}%")
    row.measured, row.met = measured, seconds <= 120


def sweep(runner: Runner, row: Row) -> None:
    count, duration = (2, "25 steps") if runner.tiny else (8, "5 epochs")
    row.what = f"sweep of {count} short runs of `configs/digits.py`"
    row.target = "≤ 0.25 × separate processes"
    words = ["benchmarks/sweep.py", f"--runs={count}", f"--duration={duration}", "--repeats=0"]
    words += ["--caches", "cold", "--whole", "auto", "off"]
    # The process that starts the others must leave them the memory.
    result = runner.result(row, words, **SHARED)
    one, apart = (result["sweep"][f"{name}, cold"]["seconds"] for name in ("auto", "off"))
    row.met = one / apart <= 0.25
    row.measured = f"**{one / apart:.2f}**: {one:.1f} s over {apart:.1f} s"
    row.notes.append(
        f"{duration} each, n = 1; the processes share a compilation cache that is empty at first"
    )


def scanned_blocks(runner: Runner, row: Row) -> None:
    depth, batch, steps = ("8", 4, 1) if runner.tiny else ("56", 128, 20)
    row.what = f"resnet{depth} float32, batch {batch}: blocks unrolled or as a loop"
    words = ["benchmarks/scan_blocks.py", f"--depths={depth}", "--layouts", "unrolled", "scanned"]
    words += [f"--batch_size={batch}", f"--steps={steps}", "--limit=110"]
    printed = runner.run(row, words)
    results = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    row.results += results
    row.measured = ", ".join(
        f"{r['layout']} {r['step_ms']} ms a step, {r['compile_s']} s to compile"
        if "step_ms" in r
        else f"{r['layout']} given up"
        for r in results
    )
    row.notes.append("n = 1 each, median step; each step waits for the one before")


def calls_and_convolutions(runner: Runner, row: Row) -> None:
    batch, steps, repeats = (4, 10, 2) if runner.tiny else (128, 200, 5)
    row.what = f"resnet20 float32, batch {batch}: steps a call, and convolution, images/s"
    words = ["benchmarks/train_step.py", "--against", f"--batch_size={batch}"]
    words += [
        f"--steps={steps}",
        f"--repeats={repeats}",
        f"--image_size={8 if runner.tiny else 32}",
    ]
    parts = []
    for convolution, per_call in (("native", 1), ("native", 10), ("loop_safe", 10)):
        options = [f"--convolution={convolution}", f"--steps_per_call={per_call}"]
        result = runner.result(row, words + options, limit=120)
        parts.append(f"{convolution}, {per_call}: {spread(result['images_per_second']['ours'])}")
        row.measured = "; ".join(parts)
    row.notes.append(f"{repeats} rounds, a process each, not in turn")


# The targets first: what comes late may find no time left.
ROWS: dict[str, Callable[[Runner, Row], None]] = {
    "train_step": train_step,
    "accuracy": accuracy,
    "iterations": paper_iterations,
    "sweep": sweep,
    "scan_blocks": scanned_blocks,
    "calls": calls_and_convolutions,
}


def measured(runner: Runner, fill: Callable[[Runner, Row], None]) -> Row:
    """A row; what went wrong is one of its notes."""
    row = Row()
    try:
        fill(runner, row)
    except NotMeasuredError as error:
        row.notes.append(str(error))
    except Exception as error:
        # The rows that are left matter more.
        traceback.print_exc()
        row.notes.append(last_line(f"{type(error).__name__}: {error}"))
    if runner.tiny:
        row.met = None
        row.notes.insert(0, "tiny sizes")
    return row


def table(rows: Sequence[Row]) -> str:
    columns = ("what", "target", "measured: median (min–max)", "met", "notes")
    return markdown(columns, [row.cells() for row in rows])


def find_machine(runner: Runner) -> dict[str, Any]:
    """What the benchmarks say of it; ends the program where it has no GPU."""
    try:
        found = json.loads(runner.run(Row(), ["-c", MACHINE]))
    except NotMeasuredError as error:
        sys.exit(f"error: JAX does not start: {error}")
    if found["backend"] != "gpu" and not runner.tiny:
        backend = f"JAX sees no GPU (its backend is {found['backend']})"
        print(f"error: {backend}: --tiny tries the script without one", file=sys.stderr)
        sys.exit(2)
    return found


def main() -> None:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as directory:
        runner, rows = Runner(arguments, Path(directory)), []
        found = find_machine(runner)
        for name in arguments.rows:
            rows.append(measured(runner, ROWS[name]))
            print(table(rows).splitlines()[-1], file=sys.stderr, flush=True)
            if arguments.out:
                result = {
                    "machine": found,
                    "tiny": arguments.tiny,
                    "rows": [asdict(r) for r in rows],
                }
                arguments.out.write_text(json.dumps(result, indent=2, default=str) + "\n")
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items() if number)
    print(f"{found['device']}, {found['cores']} CPU cores; {versions}\n\n{table(rows)}")
    if arguments.tiny:
        print("Tiny sizes: these numbers say nothing.")


if __name__ == "__main__":
    main()
