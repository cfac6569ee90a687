"""metrics.jsonl: one JSON object a line, appended while the run trains and read when it resumes.

This module imports no JAX.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from resnet_jax.errors import UserError
from resnet_jax.files import flush, open_file, write_file
from resnet_jax.strict_json import from_json, is_finite, to_json
from resnet_jax.training.intervals import count_due, is_due
from resnet_jax.training.stored_facts import check_line

# Bytes of the file, some seven million lines; and of a line, of which the rest counts as another.
LARGEST_LOG, LONGEST_LINE = 2**30, 2**16


class MetricsLog:
    """The file, as a sink (`sinks.py`) and to read.

    Args:
        path: of the file, which need not exist.
        writing: a context that turns an OSError into an error for the user.
        writes: False: nothing is written.
    """

    def __init__(
        self, path: Path, writing: Callable[[], AbstractContextManager[None]], writes: bool = True
    ) -> None:
        self._path, self._writing, self._writes = path, writing, writes

    def write(self, line: Mapping[str, Any]) -> None:
        """Append a line."""
        if self._writes:
            with self._writing(), self._path.open("a", encoding="utf-8") as file:
                file.write(to_json(line) + "\n")

    def close(self) -> None:
        """Each line is written already."""

    def flush(self) -> None:
        """Wait until the file is on the disk.

        Raises:
            UserError: it cannot be written.
        """
        if self._writes and self._path.exists():
            with self._writing():
                flush(self._path)
                flush(self._path.parent)

    def read(self) -> Iterator[dict[str, Any]]:
        """The lines; a last line cut short by a crash is left out.

        Raises:
            UserError: another line cannot be read.
        """
        for number, line in enumerate(self._lines(), 1):
            if line is None:
                where, problem = str(self._path), f"line {number} cannot be read"
                fix = "delete that line, or run `train`, which does"
                raise UserError("metrics.jsonl", where, problem, fix)
            yield line

    def readable(self) -> list[dict[str, Any]]:
        """The lines that can be read."""
        return [line for line in self._lines() if line is not None]

    def _lines(self) -> Iterator[dict[str, Any] | None]:
        try:
            with open_file(self._path, LARGEST_LOG) as file:
                while (raw := file.readline(LONGEST_LINE)).endswith(b"\n") or len(
                    raw
                ) == LONGEST_LINE:
                    line = metrics_line(raw)
                    # A number that is not finite is not a result, whoever wrote it.
                    if is_finite(line):
                        yield line
        except FileNotFoundError:
            return
        except OSError as error:
            problem = f"cannot be read ({error.strerror or error})"
            raise UserError("metrics.jsonl", str(self._path), problem) from error

    def forget_after(self, step: int, copy_to: Callable[[], Path]) -> int:
        """Drop the lines after `step`, which a resumed run writes again.

        Args:
            step: of the last line that is kept.
            copy_to: where a file with lines that cannot be read is copied before.

        Returns:
            How many lines could not be read.

        Raises:
            OSError: the file cannot be written.
        """
        lines = list(self._lines())
        unreadable = lines.count(None)
        if unreadable:
            shutil.copyfile(self._path, copy_to())
        if self._path.exists():
            kept = [line for line in lines if line is not None and line["step"] <= step]
            write_file(self._path, "".join(to_json(line) + "\n" for line in kept))
        return unreadable


def metrics_line(raw: bytes) -> dict[str, Any] | None:
    """A line of metrics.jsonl; None where it cannot be read."""
    try:
        line = from_json(raw)
        check_line(line)
    except ValueError:
        return None
    return line


def missing_lines(
    lines: Iterable[Mapping[str, Any]], step: int, every: float, is_end: bool = False
) -> str:
    """What metrics.jsonl lacks of its train lines up to a step, in words; empty: nothing.

    Args:
        lines: of the file.
        step: that the run has reached.
        every: steps between two lines.
        is_end: the run ended there, which is a line too.
    """
    logged = {line["step"] for line in lines if line["event"] == "train" and line["step"] <= step}
    last = max(logged, default=0)
    if count_due(step, every) > count_due(last, every) or (is_end and last < step):
        return f"metrics.jsonl ends at step {last} of {step}"
    missing = count_due(step, every) - sum(is_due(one, every) for one in logged)
    return f"metrics.jsonl lacks {missing} train lines before step {last}" if missing else ""


def evaluations(lines: Iterable[Mapping[str, Any]]) -> dict[int, dict[str, Any]]:
    """Step → result of its evaluation, from lines of metrics.jsonl."""
    where = ("event", "step", "epoch")
    return {
        line["step"]: {name: value for name, value in line.items() if name not in where}
        for line in lines
        if line["event"] == "eval"
    }
