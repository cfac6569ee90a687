"""Where the time of a step goes: the operations of a trace that `train --profile` wrote.

    python launch.py train --config=CONFIG --workdir=RUN --profile=10:15
    python benchmarks/operations.py RUN/profile --hlo=DUMP
    python benchmarks/operations.py RUN/profile --kinds

Prints milliseconds and times in a call of the loop, and the name, of each compiled operation, the longest
first. A call does `train.steps_per_call` steps where so many fit before what is due, else one. With --hlo
also the instruction: a folder that `XLA_FLAGS="--xla_dump_to=DUMP --xla_dump_hlo_as_text"` filled in the
same run. With --kinds also the sums of each kind of operation, found by their names on a CPU.
"""

import argparse
import gzip
import json
import re
import sys
from collections import Counter
from pathlib import Path

# The first that an operation's name has counts: one fusion may have several.
KINDS = {
    "convolutions": re.compile(r"onednn\$conv|convolution"),
    "products": re.compile(r"onednn\$matmul|dot"),
    "sums": re.compile("ynn_fusion|reduce"),
    "transposes": re.compile("transpose|copy"),
    "the rest": re.compile(""),
}
INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.-]+) = (.*)$", re.MULTILINE)


def newest_trace(folder: Path) -> list[dict]:
    """Events of the last trace in a folder."""
    files = sorted(folder.rglob("*.trace.json.gz"), key=lambda path: path.stat().st_mtime)
    files = [path for path in files if not path.name.startswith("perfetto")]
    if not files:
        sys.stderr.write(
            f"error: {folder} has no *.trace.json.gz; train with --profile writes one\n"
        )
        sys.exit(2)
    return json.loads(gzip.decompress(files[-1].read_bytes()))["traceEvents"]


def operations(events: list[dict]) -> list[tuple[str, str, float, float]]:
    """(program, operation, milliseconds, times), both in a call of the loop; the longest first."""
    complete = [event for event in events if event.get("ph") == "X"]
    calls = sum(event["name"] == "train" for event in complete) or 1
    milliseconds, times = Counter(), Counter()
    for event in complete:
        known = event.get("args", {})
        if "hlo_op" in known:
            key = known.get("hlo_module", ""), known["hlo_op"]
            milliseconds[key] += event["dur"] / 1e3 / calls
            times[key] += 1 / calls
    return [(*key, spent, times[key]) for key, spent in milliseconds.most_common()]


def by_kind(found: list[tuple[str, str, float, float]]) -> dict[str, tuple[float, float]]:
    """Milliseconds and times of each kind, of what `operations` returns."""
    sums = dict.fromkeys(KINDS, (0.0, 0.0))
    for _, operation, spent, times in found:
        kind = next(kind for kind, name in KINDS.items() if name.search(operation))
        sums[kind] = sums[kind][0] + spent, sums[kind][1] + times
    return sums


def instructions(folder: Path, program: str) -> dict[str, str]:
    """Operation → its instruction, in the largest optimised program of that name."""
    files = folder.glob(f"*.{program}.*after_optimizations.txt")
    texts = sorted((path.read_text() for path in files), key=len)
    return dict(INSTRUCTION.findall(texts[-1])) if texts else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trace", type=Path, help="WORKDIR/profile, or another folder with a trace")
    parser.add_argument("--hlo", type=Path, help="folder with dumped programs")
    parser.add_argument("--kinds", action="store_true", help="also the sums of each kind")
    parser.add_argument("--most", type=int, default=30, help="operations to print")
    parser.add_argument("--width", type=int, default=150, help="characters of an instruction")
    arguments = parser.parse_args()
    found = operations(newest_trace(arguments.trace))
    total, shown = sum(spent for *_, spent, _ in found), found[: arguments.most]
    print(f"{total:10.2f} ms in a call of the loop in all operations of the trace")
    for kind, (spent, times) in by_kind(found).items() if arguments.kinds else ():
        print(f"{spent:10.2f} ms {times:6.1f} ×  all {kind} ({spent / total:.0%})")
    programs = {program for program, *_ in shown} if arguments.hlo else ()
    texts = {program: instructions(arguments.hlo, program) for program in programs}
    for program, operation, spent, times in shown:
        text = texts.get(program, {}).get(operation, "")
        print(f"{spent:10.2f} ms {times:6.1f} ×  {operation}  {text[: arguments.width]}".rstrip())


if __name__ == "__main__":
    main()
