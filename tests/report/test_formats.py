"""Markdown, LaTeX and CSV: the numbers are there and text is no markup."""

import csv
import html
import re

import pytest
from fabricate import read
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from resnet_jax.report import formats
from resnet_jax.report.comparisons import compare
from resnet_jax.report.tables import Cell, Table, results_table


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_of_results(depth_study, tmp_path):
    _, axes, settings = read(depth_study)
    formats.write_results(tmp_path / "r.csv", settings, axes)
    row = rows_of(tmp_path / "r.csv")[3]
    assert (row["model.depth"], row["model.shortcut"]) == ("14", "A")
    assert float(row["test_error_mean"]) == pytest.approx(8.0)
    assert float(row["test_error_std"]) == pytest.approx(0.3)
    assert (row["done"], row["planned"], row["parameters"]) == ("3", "3", "272474")
    bounds = [f"{split}_error_{end}" for split in ("test", "train") for end in ("low", "high")]
    assert [float(row[name]) for name in bounds] == pytest.approx(
        [7.255, 8.745, 1.752, 2.248], abs=1e-3
    )


def test_csv_of_runs_and_curves(broken_study, tmp_path):
    study, _, _ = read(broken_study)
    formats.write_runs(tmp_path / "runs.csv", study)
    formats.write_curves(tmp_path / "curves.csv", study)
    rows = rows_of(tmp_path / "runs.csv")
    assert len(rows) == 9
    assert [row["state"] for row in rows].count("diverged") == 3
    assert {row["error"] for row in rows} >= {"RuntimeError: out of <b>memory</b>", ""}
    curve = [r for r in rows_of(tmp_path / "curves.csv") if r["run"] == rows[0]["id"]]
    assert {row["split"] for row in curve} == {"train", "test"}
    test = [row for row in curve if row["split"] == "test"]
    assert [int(row["step"]) for row in test] == list(range(20, 201, 20))
    assert float(test[-1]["error"]) == pytest.approx(10.0)


def test_csv_of_comparisons(depth_study, tmp_path):
    study, axes, settings = read(depth_study)
    formats.write_comparisons(tmp_path / "c.csv", compare(settings, axes, study.base))
    rows = rows_of(tmp_path / "c.csv")
    assert [row["split"] for row in rows] == ["train"] * 4 + ["test"] * 4
    (row,) = [r for r in rows if r["split"] == "test" and r["fixed"] == "depth 14"]
    assert float(row["difference"]) == pytest.approx(-4.0)
    assert float(row["low"]) < -4 < float(row["high"]) < 0


def test_markdown_and_latex_mark_the_best(depth_study):
    _, axes, settings = read(depth_study)
    table = results_table(settings, axes)
    assert "| **8.00 ± 0.30** |" in formats.markdown_table(table)
    latex = formats.latex_table(table, "50% & more")
    assert r"& \textbf{8.00 $\pm$ 0.30} &" in latex
    assert r"\caption{50\% \& more}" in latex
    assert " & 95\\% interval (test) & " in latex
    assert " & 7.25 to 8.75 & " in latex
    assert " | 7.25 to 8.75 | " in formats.markdown_table(table)
    rules = [latex.count(f"\\{rule}rule") for rule in ("top", "mid", "bottom")]
    assert rules == [1, 1, 1]
    body = latex[latex.index("midrule") : latex.index(r"\bottomrule")]
    columns = len(table.columns)
    assert {line.count(" & ") for line in body.splitlines() if line.endswith(r"\\")} == {
        columns - 1
    }


@given(st.text(max_size=40))
def test_any_text_comes_through_markdown_as_text(text):
    """An independent parser of Markdown gives back the words, and no markup."""
    table = Table(("name",), (False,), ((Cell(text),),))
    rendered = (
        MarkdownIt("commonmark", {"html": True})
        .enable("table")
        .render(formats.markdown_table(table))
    )
    cells = re.findall(r"<td[^>]*>(.*?)</td>", rendered, flags=re.DOTALL)
    assert len(cells) == 1
    # Characters that HTML forbids become U+FFFD, as the standard of Markdown wants.
    expected = " ".join(text.split()).replace("\0", "�")
    assert html.unescape(cells[0]) == expected


BLOCKS = ["- a", "1. a", "12) x", "---", "- - -", "===", "+ a", "\t- x", "> a", "# a", "    a"]


@pytest.mark.parametrize("text", [*BLOCKS, "```", "~~~", "[a]: b", "![a](b)", "<b>", "a|b"])
def test_a_paragraph_of_any_text_is_a_paragraph(text):
    tokens = MarkdownIt("commonmark").parse(formats.markdown_text(text))
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"]
    assert {token.type for token in tokens[1].children} <= {"text", "text_special"}
    assert tokens[1].content.replace("\\", "")
    shown = "".join(token.content for token in tokens[1].children)
    assert shown == text.strip()


@pytest.mark.parametrize("text", ["=1+1", "+1", "-a", "@SUM(A1)", "\t=1", " =1", "＝1"])
def test_csv_has_no_formulas(tmp_path, text):
    """A spreadsheet runs a cell that begins like one; numbers stay numbers."""
    formats.write_csv(tmp_path / "r.csv", [text], [[text], [-1.5], [None], ["a=1"]])
    with (tmp_path / "r.csv").open(newline="", encoding="utf-8") as file:
        cells = [row[0] for row in csv.reader(file) if row]
    assert cells[:3] == [f"'{text}", f"'{text}", "-1.5"]
    assert cells[-1] == "a=1"


def test_csv_replaces_a_link(tmp_path):
    (tmp_path / "bashrc").write_text("alias ls=ls")
    (tmp_path / "r.csv").symlink_to(tmp_path / "bashrc")
    formats.write_csv(tmp_path / "r.csv", ["a"], [[1]])
    assert (tmp_path / "bashrc").read_text() == "alias ls=ls"
    assert (tmp_path / "r.csv").read_text() == "a\n1\n"


@given(st.text(alphabet="ab\\{}$%&#_^~<>", max_size=20))
def test_latex_has_no_special_character_bare(text):
    words = formats.latex_text(text)
    macro = r"\\(?:textbackslash|textasciitilde|textasciicircum|textless|textgreater)\{\}"
    left = re.sub(rf"{macro}|\\[&%$#_{{}}]", "", words)
    assert not set(left) & set("\\{}$%&#_^~<>")
