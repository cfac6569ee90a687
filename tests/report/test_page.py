"""The page: complete, self-contained, and text stays text. `test_browser.py` opens it."""

import html.parser
import os
import re
import subprocess
import sys
from urllib.parse import quote, unquote_to_bytes

import matplotlib
import pytest
from fabricate import make_sweep
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from resnet_jax.errors import UserError
from resnet_jax.report.page import Content, html_page, markdown_page
from resnet_jax.report.tables import Cell, Table
from resnet_jax.report.write import write_report

HOSTILE = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        [
            "<script>alert(1)</script>",
            "</td></table><img src=x onerror=alert(1)>",
            '" onmouseover="alert(1)',
            "</style><script src=http://example.org></script>",
            "{{ 7 * 7 }}{% for %}",
            "]]><!--",
        ]
    ),
)


WITHOUT_JAX = """
import sys

class Refuse:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("jax", "jaxlib", "flax", "optax", "orbax"):
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
from resnet_jax.cli import main
sys.exit(main())
"""


class Tags(html.parser.HTMLParser):
    """Elements, with their attributes, and the text between them."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.words = [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.words.append(data)


def content(text="plain words"):
    table = Table(("name", "state"), (False, False), ((Cell(text, text), Cell("failed")),), (text,))
    return Content(
        title=text,
        description=text,
        summary=text,
        written=text,
        data_sets=text,
        notes=[text],
        results=table,
        comparisons=table,
        runs=table,
        findings=[text],
        methods=[text],
        failures=[("failed", text, [text])],
        figures=[],
        environments=[(text, text, 1)],
        files=[text],
    )


@settings(max_examples=60)
@given(HOSTILE)
def test_any_text_is_shown_and_adds_no_element(text):
    page, plain = Tags(html_page(content(text))), Tags(html_page(content()))
    names = [tag for tag, _ in page.elements]
    if text:
        assert names == [tag for tag, _ in plain.elements]
    for (_, found), (_, expected) in zip(page.elements, plain.elements, strict=False):
        assert text == "" or found.keys() == expected.keys()
    # A parser reads \r and NUL as others; all else comes back as it was.
    if not set(text) & set("\r\0"):
        assert sum(word.strip() == text.strip() for word in page.words) >= bool(text.strip())


def test_the_page_asks_for_nothing_outside():
    page = html_page(content())
    elements = Tags(page).elements
    assert not [tag for tag, _ in elements if tag in ("link", "iframe", "object", "embed", "base")]
    assert all("src" not in attributes for tag, attributes in elements if tag == "script")
    assert not re.search(r"url\(|@import|https?://", page)


def test_markdown_of_hostile_text_has_no_html():
    text = markdown_page(content("<script>alert(1)</script>"), [])
    assert "<" not in text
    assert "alert(1)" in text


FENCES = [
    " ```\n```\n<b>",
    " ~~~\n~~~\n# x",
    " `\r```\r<b>",
    " a\n````\n\n````\n<b>",
    " a\n   ```\n- b",
]


@settings(max_examples=40)
@given(st.one_of(HOSTILE, st.sampled_from(FENCES)))
def test_any_text_adds_nothing_to_the_markdown(text):
    """An independent parser finds headings, lists, tables and code where our own are, and no other."""
    found = [token.type for token in markdown(text) if token.type in MARKUP]
    assert found == [token.type for token in markdown("plain words") if token.type in MARKUP]
    inside = [child.type for token in markdown(text) for child in token.children or ()]
    assert set(inside) <= {"text", "text_special", "softbreak"}


MARKUP = (
    "heading_open", "html_block", "hr", "blockquote_open", "bullet_list_open", "ordered_list_open",
    "table_open", "link_open",
)  # fmt: skip


def markdown(text):
    return MarkdownIt("commonmark").enable("table").parse(markdown_page(content(text or "a"), []))


def test_a_report_does_not_read_or_write_through_links(depth_study, tmp_path):
    start_up, folder = tmp_path / "bashrc", tmp_path / "out"
    start_up.write_text("![x](page_curves_9.png)")
    folder.mkdir()
    for name in ("page.html", "page.md", "page.tex", "page_runs.csv", "page_curves.png"):
        (folder / name).symlink_to(start_up)
    (folder / "page_curves_9.png").touch()
    files = write_report([str(depth_study.path)], str(folder / "page.html"), latex=True)
    assert start_up.read_text() == "![x](page_curves_9.png)"
    assert not any(path.is_symlink() for path in files)
    assert (folder / "page_curves_9.png").exists()


def test_formulas_of_matplotlib_are_text_in_figures(sweep_of, tmp_path):
    """A malformed one would raise, and a wild one takes long."""
    matplotlib.rcParams["text.usetex"] = True
    try:
        values = [r"$\frac{", "$" + "{" * 100 + "$", r"\input{/etc/passwd}"]
        sweep_of({"data.train_split": values})
        assert write_report([str(tmp_path / "sweep")])
    finally:
        matplotlib.rcParams["text.usetex"] = False


def test_files_of_a_report(depth_study):
    files = write_report([str(depth_study.path)], latex=True)
    folder = depth_study.path / "report"
    assert files[0] == folder / "report.html"
    names = {path.name for path in files}
    assert names >= {f"report{end}" for end in (".md", ".tex", "_runs.csv", "_results.csv")}
    assert {"report_curves.png", "report_error_by_depth.png"} <= names
    assert all(path.stat().st_size for path in files)
    page = files[0].read_text()
    assert page.count("<img ") == len([name for name in names if name.endswith(".png")])
    assert "<strong>8.00 ± 0.30</strong>" in page
    markdown = (folder / "report.md").read_text()
    linked = re.findall(r"!\[.*?\]\((.*?)\)", markdown)
    assert set(linked) == {name for name in names if name.endswith(".png")}


def test_a_search_has_no_comparisons(tmp_path):
    runs = [({"optimizer.momentum": m}, (10 * m, 5.0)) for m in (0.5, 0.8, 0.9)]
    sweep = make_sweep(tmp_path / "s", runs, search={"engine": "optuna"})
    page = write_report([str(sweep.path)])[0].read_text()
    assert 'id="comparisons"' not in page
    assert page.count("<img ") == 3
    assert "intervals are wide" not in page


def test_a_report_while_the_sweep_has_hardly_begun(tmp_path):
    runs = [({"model.depth": depth, "seed": 0}, "pending") for depth in (8, 14)]
    sweep = make_sweep(tmp_path / "s", runs)
    page = write_report([str(sweep.path)])[0].read_text()
    assert "2 runs: 2 pending" in page
    assert "<img" not in page


def test_reports_of_one_run_and_of_the_same_sweep_again(depth_study):
    run = sorted(depth_study.runs.iterdir())[0]
    assert "1 run: 1 done. One setting, 1 seed each." in write_report([str(run)])[0].read_text()
    first, second = (write_report([str(depth_study.path)])[0].read_text() for _ in range(2))
    written = r"Written [\d: -]+UTC"
    assert re.sub(written, "", first) == re.sub(written, "", second)


def test_pictures_of_the_earlier_report_that_are_drawn_no_more_are_removed(sweep_of, tmp_path):
    fields = {"optimizer.weight_decay": (0.0, 1e-4, 1e-3), "model.shortcut": ("none", "A", "B")}
    out = tmp_path / "page.html"
    before = write_report([str(sweep_of(fields).path)], str(out))
    assert tmp_path / "page_heat_map_weight_decay_shortcut.png" in before
    others = [tmp_path / name for name in ("page_error_by_hand.png", "page_2_curves.png")]
    for other in others:
        other.write_text("not of the report")
    (tmp_path / "page.md").write_text(
        (tmp_path / "page.md").read_text() + "\n![mine](notes.png)\n![mine](page_photo.png)\n"
    )
    mine = [tmp_path / name for name in ("notes.png", "page_photo.png")]
    for path in mine:
        path.write_text("linked by hand")
    single = make_sweep(tmp_path / "one", [({"model.depth": 8, "seed": s}, (9, 5)) for s in (0, 1)])
    after = write_report([str(single.path)], str(out))
    kept = {path for path in after if path.suffix == ".png"} | set(others) | set(mine)
    assert set(tmp_path.glob("*.png")) == kept


@pytest.mark.parametrize("out", ["page.txt", "folder"])
def test_out_must_be_a_page(depth_study, tmp_path, out):
    with pytest.raises(UserError, match="--out"):
        write_report([str(depth_study.path)], str(tmp_path / out))


def test_out_that_cannot_be_written(depth_study, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_report([str(depth_study.path)], str(tmp_path / "file" / "page.html"))


def test_command_without_jax(depth_study, tmp_path):
    """`launch.py report` where importing JAX and its libraries fails."""
    page = tmp_path / "page.html"
    command = [sys.executable, "-c", WITHOUT_JAX, "report", str(depth_study.path), f"--out={page}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == str(page)
    command[4] = str(tmp_path / "nowhere")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: DIR = ")
    assert len(done.stderr.splitlines()) == 1


NASTY = ["caf\udce9", "$a$ [b](c) *d* `e`", "_x", "a\nb\x1b", "\\ & % # {y} ~^", "</td><b>", "🙂"]


def test_a_report_on_names_of_any_kind(tmp_path, sweep_of):
    """Names are in the figures, tables and file names; a second report finds its files."""
    sweep_of({"data.train_split": NASTY, "model.depth": [8, 14]})
    page = tmp_path / "r [1] (é) caf\udce9.html"
    files = write_report([str(tmp_path / "sweep")], str(page), latex=True)
    text = page.read_text(encoding="utf-8")
    assert "\udce9" not in text
    assert all(
        label in html.unescape(text) for label in (r"caf\xe9", "“_x”", r"a\nb\x1b", "</td><b>")
    )
    latex = page.with_suffix(".tex").read_text(encoding="utf-8")
    assert r"caf\textbackslash{}xe9" in latex
    assert {path.name for path in files} == {path.name for path in tmp_path.iterdir()} - {"sweep"}
    linked = re.findall(r'<a href="([^"#]*)">', text)
    assert {unquote_to_bytes(address) for address in linked} == {
        os.fsencode(path.name) for path in files[1:]
    }
    picture = next(path for path in files if path.suffix == ".png")
    old = picture.with_name(picture.name.replace(".png", "_9.png"))
    old.touch()
    markdown = page.with_suffix(".md")
    address = quote(os.fsencode(old.name))
    markdown.write_text(f"![x]({address})\n", encoding="utf-8")
    write_report([str(tmp_path / "sweep")], str(page))
    assert not old.exists()
