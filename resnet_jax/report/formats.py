"""Tables as Markdown and LaTeX; numbers as CSV."""

import csv
import io
import os
import re
import urllib.parse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from resnet_jax.errors import printable
from resnet_jax.files import write_file
from resnet_jax.report.axes import Axes
from resnet_jax.report.comparisons import Comparison
from resnet_jax.report.confounded import Confounded
from resnet_jax.report.run import Run
from resnet_jax.report.settings import ERRORS, Setting
from resnet_jax.report.study import Study
from resnet_jax.report.tables import Cell, Table

_LATEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # After a row's end, these two would be its options.
    "[": "{[}",
    "*": "{*}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
}
# What text begins with that a spreadsheet takes for a formula; full width too.
FORMULAS = tuple("=+-@＝＋－＠")


def markdown_text(text: str) -> str:
    """Text escaped for Markdown, in one line."""
    line = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = re.sub(r"([\\`*_\[\]|#~])", r"\\\1", line)
    # At its start, a rule, an underline, or the mark of a list.
    return re.sub(r"^(\d*)(?=[-+=.)]+( |$))", r"\1\\", line)


def markdown_table(table: Table) -> str:
    """A pipe table; the notes follow as a list."""
    rules = ["---:" if numeric else "---" for numeric in table.numeric]
    lines = [_pipes(map(markdown_text, table.columns)), _pipes(rules)]
    lines += [_pipes(map(_markdown_cell, row)) for row in table.rows]
    notes = [f"{i}. {markdown_text(note)}" for i, note in enumerate(table.notes, 1)]
    return "\n".join([*lines, "", *notes]).rstrip() + "\n"


def _pipes(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown_cell(cell: Cell) -> str:
    text = markdown_text(cell.text)
    text = f"**{text}**" if cell.best else text
    return f"{text} ({cell.note})" if cell.note else text


def latex_text(text: str) -> str:
    """Text escaped for LaTeX."""
    line = printable(" ".join(text.split()))
    return "".join(_LATEX.get(character, character) for character in line)


def link(name: str) -> str:
    """The address of a file in the page's directory, for HTML and Markdown."""
    return urllib.parse.quote(os.fsencode(name))


def linked_file(address: str) -> str:
    """The file name that `link` made an address of."""
    return os.fsdecode(urllib.parse.unquote_to_bytes(address))


def latex_table(table: Table, caption: str) -> str:
    """A `table` with booktabs rules; notes below."""
    alignment = "".join("r" if numeric else "l" for numeric in table.numeric)
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        "  \\centering",
        f"  \\caption{{{latex_text(caption)}}}",
        f"  \\begin{{tabular}}{{{alignment}}}",
        "    \\toprule",
        f"    {' & '.join(map(latex_text, table.columns))} \\\\",
        "    \\midrule",
        *(f"    {' & '.join(map(_latex_cell, row))} \\\\" for row in table.rows),
        "    \\bottomrule",
        "  \\end{tabular}",
    ]
    notes = [f"  \\\\\\footnotesize $^{i}$ {latex_text(n)}" for i, n in enumerate(table.notes, 1)]
    return "\n".join([*lines, *notes, "\\end{table}"]) + "\n"


def _latex_cell(cell: Cell) -> str:
    text = latex_text(cell.text)
    text = f"\\textbf{{{text}}}" if cell.best else text
    return f"{text}$^{{{cell.note}}}$" if cell.note else text


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A CSV file with a header; None is an empty cell."""
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(map(_csv_cell, columns))
    writer.writerows(map(_csv_cell, row) for row in rows)
    write_file(path, file.getvalue())


def _csv_cell(value: Any) -> Any:
    """A value that a spreadsheet shows: it would run text that begins like a formula."""
    if isinstance(value, str) and value.lstrip()[:1] in FORMULAS:
        return f"'{value}"
    return value


def write_runs(path: Path, study: Study) -> None:
    """A row per run: the fields that the study varies, state, final errors, costs, reason."""

    def value(run: Run, name: str) -> Any:
        return run.conditions.get(name, run.config.get(name))

    names = dict.fromkeys(
        [*study.fields, *(n for r in study.runs for n in (*r.config, *r.conditions))]
    )
    varied = [name for name in names if len({value(run, name) for run in study.runs}) > 1]
    columns = ["id", *varied, "state", "step", "test_error", "train_error"]
    columns += ["parameters", "macs", "seconds", "error"]
    rows = [
        [run.id]
        + [value(run, name) for name in varied]
        + [run.state, run.status.get("step"), run.final_error("test"), run.final_error("train")]
        + [run.parameters, run.macs, run.seconds, run.error]
        for run in study.runs
    ]
    write_csv(path, columns, rows)


def write_results(path: Path, settings: Sequence[Setting], axes: Axes) -> None:
    """A row per setting: values of the axes, errors in percent with their spread, counts, costs."""
    columns = [name for axis in axes.axes for name in axis.fields]
    for split in ERRORS:
        columns += [f"{split}_error_{part}" for part in ("mean", "std", "low", "high")]
    columns += ["done", "planned", "literature", "parameters", "macs"]
    rows = []
    for setting in settings:
        row: list[Any] = [part for value in setting.values.values() for part in value]
        for split in ERRORS:
            summary = setting.summary(split)
            low, high = (summary and summary.interval) or (None, None)
            row += [summary and summary.mean, summary and summary.std, low, high]
        found = setting.references
        done = sum(run.state == "done" for run in setting.runs)
        row += [done, len(setting.runs), found[0].error if found else None]
        rows.append([*row, setting.runs[0].parameters, setting.runs[0].macs])
    write_csv(path, columns, rows)


def write_curves(path: Path, study: Study) -> None:
    """A row per line of every run's metrics: run, split, step, epoch, error in percent."""
    rows = (
        (run.id, split, int(step), float(epoch), round(float(error), 6))
        for run in study.runs
        for split, curve in (("train", run.train), ("test", run.test))
        for step, epoch, error in zip(*curve, strict=True)
    )
    write_csv(path, ["run", "split", "step", "epoch", "error"], rows)


def write_comparisons(
    path: Path, comparisons: Sequence[Comparison], confounded: Sequence[Confounded] = ()
) -> None:
    """A row per comparison; differences are the compared one minus the baseline, in points.

    Pairs that differ in more than one field follow, with the verdict alone.
    """
    columns = ["split", "axis", "fixed", "compared", "baseline", "pairs", "difference", "std"]
    columns += ["low", "high", "bootstrap_low", "bootstrap_high", "p", "p_holm", "verdict"]
    rows = []
    for c in comparisons:
        baseline, other = c.names
        row: list[Any] = [c.split, c.axis.label, c.fixed, other, baseline]
        if c.paired is None:
            rows.append([*row, 0, *[None] * 8, c.verdict])
            continue
        d = c.paired.difference
        row += [d.n, -d.mean, d.std]
        for interval in (d.interval, c.paired.bootstrap):
            row += [-interval.high, -interval.low] if interval else [None, None]
        rows.append([*row, c.paired.p_value, c.adjusted, c.verdict])
    for pair in confounded:
        baseline, other = pair.names
        rows.append([None, pair.axis.label, pair.fixed, other, baseline, *[None] * 9, pair.verdict])
    write_csv(path, columns, rows)
