"""All rows of the table of CPU targets, in about twenty minutes on two cores.

    python benchmarks/run.py --out=NEW.json
    python benchmarks/run.py --out=NEW.json --compare=OLD.json --only sweep imports

Every row is a number of one of the other benchmarks, run as a process of its own; rows of one command
share its run. The JSON file has the rows, the machine and all that the commands printed; the table
is printed and written beside it as Markdown. Both are written again after each row. --compare prints new
over old of the rows that both measured by the same command. The row `sweep` compares with separate
processes that share a compilation cache.
"""

import argparse
import json
import operator
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ["JAX_PLATFORMS"] = "cpu"  # Of the processes too.
os.environ.setdefault(
    "GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"
)  # As launch.py sets it for itself.

from benchmarks.measuring import machine, markdown, summary

ROOT = Path(__file__).parents[1]
HOLDS = {"≥": operator.ge, "≤": operator.le}
Printed = list[dict[str, Any]]
Summary = dict[str, float] | None


@dataclass(frozen=True)
class Row:
    """One number.

    Attributes:
        name: for --only.
        what: is measured.
        unit: of the value.
        target: `≥` or `≤` and a number, for the median; None: for comparison alone.
        command: the benchmark and its arguments.
        read: the number in the objects that the command printed; None: it was not measured.
    """

    name: str
    what: str
    unit: str
    target: str | None
    command: str
    read: Callable[[Printed], Summary]

    def holds(self, value: float | None) -> bool | None:
        """Whether a value is on the right side of the target; None: nothing to say."""
        if self.target is None or value is None:
            return None
        sign, bound = self.target.split()
        return HOLDS[sign](value, float(bound))


def at(*path: str) -> Callable[[Printed], Summary]:
    """What lies there in the only object printed."""

    def read(printed: Printed) -> Summary:
        (found,) = printed
        for name in path:
            found = found[name]
        return found

    return read


def compile_ratio(printed: Printed) -> Summary:
    """Seconds to trace and compile the deeper net over those of the other, which take turns."""
    seconds = [row["trace_s"] + row["compile_s"] for row in printed]
    return summary([deep / other for other, deep in zip(seconds[::2], seconds[1::2], strict=True)])


def memory_ratio(printed: Printed) -> Summary:
    without, with_remat = (row["temporary_mib"] for row in printed)
    return summary([with_remat / without])


def once(name: str) -> Callable[[Printed], Summary]:
    """A number of the first object printed, measured once."""
    return lambda printed: summary([printed[0][name]])


def sweep_ratio(printed: Printed) -> Summary:
    (result,) = printed
    seconds = {name: entry["seconds"] for name, entry in result["sweep"].items()}
    return summary([seconds["turns, cold"] / seconds["off, cold"]])


AGAINST_TORCH, BFLOAT16 = "--against torch", "--dtype=bfloat16 --against torch"
CIFAR = "train_step.py --model=resnet20 --batch_size=128 --image_size=32"
IMAGENET = "train_step.py --model=resnet50 --batch_size=16 --image_size=224"
TRAIN_CIFAR, TRAIN_IMAGENET = f"{CIFAR} --steps=4", f"{IMAGENET} --steps=2"
EVALUATE_CIFAR = f"{CIFAR} --mode=eval --steps=10 {AGAINST_TORCH}"
EVALUATE_IMAGENET = f"{IMAGENET} --mode=eval --steps=1 {AGAINST_TORCH}"
FOLDER = f"train_step.py --model=resnet18 --batch_size=64 --image_size=64 --steps=3 {AGAINST_TORCH}"
WIDE = f"train_step.py --model=wrn16_8 --batch_size=16 --image_size=32 --steps=2 {AGAINST_TORCH}"
SMALL = f"--batch_size=8 --image_size=112 --steps=2 {AGAINST_TORCH}"
GROUPED = f"train_step.py --model=resnext50_32x4d {SMALL}"
SQUEEZE = f"train_step.py --model=seresnet50 {SMALL}"
TRAIN_CIFAR_16, TRAIN_IMAGENET_16 = f"{TRAIN_CIFAR} {BFLOAT16}", f"{TRAIN_IMAGENET} {BFLOAT16}"
EVALUATE_CIFAR_16 = f"{CIFAR} --mode=eval --steps=10 {BFLOAT16}"
EVALUATE_IMAGENET_16 = f"{IMAGENET} --mode=eval --steps=1 {BFLOAT16}"
OTHER_WAYS = f"{TRAIN_CIFAR} --against pmap nnx"
DIGITS_20 = "loop_overhead.py --depth=20 --steps=20 --repeats=5"
DIGITS_44 = "loop_overhead.py --depth=44 --steps=20 --repeats=5"
LESION = "lesion.py --model=resnet110 --examples=200 --layouts"
LANDSCAPE = "landscape.py --ways one_program --points=24"
FLOOR = "floor.py"
COMPILE = "scan_blocks.py --depths 20 1202 20 1202 20 1202 --layouts auto --steps=0 --limit=100"
REMAT = "scan_blocks.py --depths 110 --layouts auto --remat none block --batch_size=128 --steps=0"
IMPORTS, FIRST_STEP = "start_up.py --parts imports", "start_up.py --parts first_step --repeats=3"
INITIALISE = "start_up.py --parts initialise --model=resnet110 --repeats=3"
SWEEP = "sweep.py --runs=8 --duration='5 epochs' --repeats=0 --whole off turns --caches cold"
SPEED, TORCH, FLAX = at("images_per_second", "ours"), at("ours_over_torch"), at("ours_over_flax")
STEP = at("milliseconds_a_step")

# fmt: off
ROWS = (
    Row("train_resnet20", "train step of resnet20, 128 at 32 px", "images/s", None, TRAIN_CIFAR, SPEED),
    Row("train_resnet20_torch", "the same over eager torch", "ratio", "≥ 1", TRAIN_CIFAR, TORCH),
    Row("train_resnet20_flax", "the same over plain Flax", "ratio", "≥ 2", TRAIN_CIFAR, FLAX),
    Row("train_resnet50", "train step of resnet50, 16 at 224 px", "images/s", None, TRAIN_IMAGENET, SPEED),
    Row("train_resnet50_torch", "the same over eager torch", "ratio", "≥ 1.05", TRAIN_IMAGENET, TORCH),
    Row("train_resnet50_flax", "the same over plain Flax", "ratio", "≥ 2", TRAIN_IMAGENET, FLAX),
    Row("evaluate_resnet20", "evaluation of resnet20, 128 at 32 px", "images/s", None, EVALUATE_CIFAR, SPEED),
    Row("evaluate_resnet20_torch", "the same over eager torch", "ratio", "≥ 1.2", EVALUATE_CIFAR, TORCH),
    Row("evaluate_resnet50", "evaluation of resnet50, 16 at 224 px", "images/s", None, EVALUATE_IMAGENET, SPEED),
    Row("evaluate_resnet50_torch", "the same over eager torch", "ratio", "≥ 1.2", EVALUATE_IMAGENET, TORCH),
    Row("train_resnet18", "train step of resnet18, 64 at 64 px", "images/s", None, FOLDER, SPEED),
    Row("train_resnet18_torch", "the same over eager torch", "ratio", "≥ 1.05", FOLDER, TORCH),
    Row("train_wrn16_8", "train step of wrn16_8, 16 at 32 px, over eager torch", "ratio", "≥ 0.9", WIDE, TORCH),
    Row("train_resnext50", "train step of resnext50_32x4d, 8 at 112 px, over eager torch", "ratio", "≥ 0.9", GROUPED, TORCH),
    Row("train_seresnet50", "train step of seresnet50, 8 at 112 px, over eager torch", "ratio", "≥ 0.9", SQUEEZE, TORCH),
    Row("train_resnet20_bfloat16", "train step of resnet20, bfloat16, over torch's autocast", "ratio", "≥ 0.9", TRAIN_CIFAR_16, TORCH),
    Row("train_resnet50_bfloat16", "train step of resnet50, bfloat16, over torch's autocast", "ratio", "≥ 0.9", TRAIN_IMAGENET_16, TORCH),
    Row("evaluate_resnet20_bfloat16", "evaluation of resnet20, bfloat16, over torch's autocast", "ratio", "≥ 1", EVALUATE_CIFAR_16, TORCH),
    Row("evaluate_resnet50_bfloat16", "evaluation of resnet50, bfloat16, over torch's autocast", "ratio", "≥ 1", EVALUATE_IMAGENET_16, TORCH),
    Row("pmap", "train step of resnet20 by parallel.mode=pmap on one device, over our jit step", "ratio", "≥ 0.95", OTHER_WAYS, at("pmap_over_ours")),
    Row("nnx", "train step of resnet20 by nnx.jit and nnx.Optimizer, over our jit step", "ratio", "≥ 0.85", OTHER_WAYS, at("nnx_over_ours")),
    Row("compile", "seconds to trace and compile resnet1202, over resnet20", "ratio", "≤ 2", COMPILE, compile_ratio),
    Row("loop", "loop of digits, data on the device, over its compiled steps", "ratio", "≤ 1.03",
        "loop_overhead.py", at("loop_over_steps")),
    Row("digits_8", "compiled train step of digits, depth 8, batch 64", "ms", "≤ 1.7", "loop_overhead.py", STEP),
    Row("digits_20", "the same at depth 20", "ms", "≤ 6.6", DIGITS_20, STEP),
    Row("digits_44", "the same at depth 44", "ms", "≤ 16.5", DIGITS_44, STEP),
    Row("first_step_cold", "process of one step of digits, empty compilation cache", "s", "≤ 15",
        FIRST_STEP, at("first_step_cold_seconds")),
    Row("first_step_warm", "the same, full compilation cache", "s", "≤ 9",
        FIRST_STEP, at("first_step_warm_seconds")),
    Row("import_models", "process that imports resnet_jax.models, less one with flax.nnx", "s", "≤ 0.2",
        IMPORTS, at("models_over_flax_seconds")),
    Row("help", "process of launch.py --help", "s", "≤ 0.5", IMPORTS, at("help_seconds")),
    Row("checkpoint", "what a save every 100 steps adds to the loop of resnet50, 16 at 224 px", "share", "≤ 0.01",
        "save_overhead.py --image_size=224 --steps=1", at("share")),
    Row("checkpoint_64px", "the same at 64 px, where a step is short", "share", None, "save_overhead.py", at("share")),
    Row("remat", "temporary memory of the step of resnet110, batch 128: remat=block over none", "ratio", "≤ 0.5",
        REMAT, memory_ratio),
    Row("initialise", "weights of resnet110 in a fresh process, after its imports", "s", "≤ 2",
        INITIALISE, at("initialise_seconds")),
    Row("sweep", "8 runs of 5 epochs of digits in turns, over separate processes that share a compilation cache, empty at first", "ratio", "≤ 0.65",
        SWEEP, sweep_ratio),
    Row("lesion", "deleting each block of resnet110, 200 images, with compilation", "s", None, LESION, once("seconds")),
    Row("landscape", "loss of resnet20 at 625 points, 2,000 images; reckoned from 24 points", "s", "≤ 556", LANDSCAPE, once("surface_s")),
    Row("floor_product", "product of two matrices of 2048 rows by the fastest library, float32", "GFLOP/s", None, FLOOR, at("fastest_gflop_per_second")),
    Row("floor_copy", "copy of 256 MiB, read and written", "GB/s", None, FLOOR, at("copied_gb_per_second")),
)
# fmt: on


def run_command(command: str) -> tuple[Printed, str | None]:
    """The JSON objects that a benchmark prints, one in all or one a line, and what went wrong."""
    script, *words = shlex.split(command)
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / script, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.stderr.write(done.stderr)
        return [], (done.stderr.splitlines() or [f"exit code {done.returncode}"])[-1]
    try:
        return [json.loads(done.stdout)], None
    except json.JSONDecodeError:
        lines = done.stdout.splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")], None


def why_not_read(printed: Printed) -> str:
    """Why a row's number is not in what its command printed."""
    limits = [found["given_up_after_s"] for found in printed if "given_up_after_s" in found]
    return f"given up after {limits[0]:g} s" if limits else "not in what the command printed"


def measure(rows: Sequence[Row], tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Run the commands of some rows; `tell` is called after each, with what there is by then.

    Returns:
        What the JSON file has: `machine`, `seconds`, `rows`, and `printed` by command.
    """
    outputs: dict[str, tuple[Printed, str | None]] = {}
    result = {"machine": machine(), "seconds": 0, "rows": [], "printed": {}}
    begun = time.perf_counter()
    for row in rows:
        if row.command not in outputs:
            outputs[row.command] = run_command(row.command)
        printed, error = outputs[row.command]
        parts = dict.fromkeys(("median", "min", "max", "n"))
        try:
            if not error and (value := row.read(printed)) is not None:
                parts = {part: value[part] for part in parts}
        except (KeyError, TypeError, ValueError, ZeroDivisionError):
            error = why_not_read(printed)
        result["rows"].append(
            {
                "name": row.name,
                "what": row.what,
                **parts,
                "unit": row.unit,
                "target": row.target,
                "holds": row.holds(parts["median"]),
                "command": f"python benchmarks/{row.command}",
                "error": error,
            }
        )
        result["printed"][row.command] = printed
        result["seconds"] = round(time.perf_counter() - begun)
        tell(result)
    return result


def spread(row: dict[str, Any]) -> str:
    """Median, smallest and largest in brackets where they differ, or what went wrong."""
    if row["median"] is None:
        return row["error"] or "not measured"
    if row["min"] == row["max"]:
        return f"{row['median']:.4g}"
    return "{median:.4g} ({min:.4g}–{max:.4g})".format(**row)


def table(result: dict[str, Any]) -> str:
    """All rows in Markdown."""
    holds = {None: "", True: "yes", False: "no"}
    return markdown(
        ("row", "what", "value", "n", "unit", "target", "holds", "command"),
        [
            (
                row["name"],
                row["what"],
                spread(row),
                row["n"] or "",
                row["unit"],
                row["target"] or "",
                holds[row["holds"]],
                f"`{row['command']}`",
            )
            for row in result["rows"]
        ],
    )


def comparison(old: dict[str, Any], new: dict[str, Any]) -> str:
    """New over old of the rows that both measured by the same command, in Markdown."""
    before = {row["name"]: row for row in old["rows"] if row["median"] is not None}
    lines = []
    for row in new["rows"]:
        if row["name"] not in before or row["median"] is None:
            continue
        earlier = before[row["name"]]
        apart = row["min"] > earlier["max"] or row["max"] < earlier["min"]
        ratio = f"{row['median'] / earlier['median']:.3g}" if earlier["median"] else ""
        ranges = "apart" if apart else "overlap"
        if row["command"] != earlier["command"]:
            ratio, ranges = "other command", ""
        lines.append((row["name"], row["unit"], spread(earlier), spread(row), ratio, ranges))
    return markdown(("row", "unit", "old", "new", "new / old", "ranges"), lines)


def parse_arguments() -> tuple[argparse.Namespace, dict[str, Any] | None]:
    """The arguments, and what the file to compare with has."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [row.name for row in ROWS]
    parser.add_argument("--out", type=Path, help="JSON file; the table is beside it as .md")
    parser.add_argument("--compare", type=Path, help="JSON file of an earlier run")
    only = "rows; all: " + ", ".join(names)
    parser.add_argument("--only", nargs="+", choices=names, metavar="ROW", help=only)
    arguments = parser.parse_args()
    if arguments.out and (arguments.out.suffix != ".json" or not arguments.out.parent.is_dir()):
        parser.error(f"--out={arguments.out} must end in .json, in a directory that exists")
    if not arguments.compare:
        return arguments, None
    try:
        old = json.loads(arguments.compare.read_text())
        comparison(old, old)
        old["machine"].keys()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        parser.error(f"--compare={arguments.compare} is no file that this command wrote: {error}")
    return arguments, old


def main() -> int:
    arguments, old = parse_arguments()
    rows = [row for row in ROWS if not arguments.only or row.name in arguments.only]

    def tell(result: dict[str, Any]) -> None:
        row = result["rows"][-1]
        line = f"{result['seconds']:4} s  {row['name']}: {spread(row)}"
        print(line, file=sys.stderr, flush=True)
        if arguments.out:
            arguments.out.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
            arguments.out.with_suffix(".md").write_text(table(result))

    result = measure(rows, tell)
    print(table(result))
    if old:
        differing = [k for k, v in result["machine"].items() if v != old["machine"].get(k)]
        if differing:
            print(f"warning: the machine is another one by {', '.join(differing)}", file=sys.stderr)
        print(comparison(old, result))
    return int(any(row["error"] for row in result["rows"]))


if __name__ == "__main__":
    sys.exit(main())
