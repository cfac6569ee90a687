"""The page: one HTML file with all it needs, and the same as Markdown."""

import base64
import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from resnet_jax.plotting.style import Figure
from resnet_jax.report.formats import link, markdown_table, markdown_text
from resnet_jax.report.tables import Table


@dataclass(frozen=True)
class Content:
    """All that a report says.

    Attributes:
        title, description, summary: of the study.
        written: when.
        data_sets: with the size of their test splits.
        notes: on the axes and on runs left out.
        results, comparisons, runs: tables.
        findings: the comparisons, a sentence each.
        methods: how the numbers were made.
        failures: (state, reason, runs).
        figures: plots.
        environments: (devices, versions, number of runs).
        files: names of the files in its directory.
    """

    title: str
    description: str
    summary: str
    written: str
    data_sets: str
    notes: Sequence[str]
    results: Table
    comparisons: Table
    runs: Table
    findings: Sequence[str]
    methods: Sequence[str]
    failures: Sequence[tuple[str, str, Sequence[str]]]
    figures: Sequence[Figure]
    environments: Sequence[tuple[str, str, int]]
    files: Sequence[str]


def html_page(content: Content) -> str:
    """The page. Text is escaped, and a policy in its head forbids requests and other scripts."""
    environment = Environment(
        loader=PackageLoader("resnet_jax.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"picture": picture, "blocks": blocks, "link": link}
    script = environment.get_template("sort.js").render()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    style = environment.get_template("style.css").render()
    page = environment.get_template("page.html")
    return page.render(content=content, script=script, style=style, script_hash=digest)


def blocks(description: str) -> list[str]:
    """The paragraphs of a docstring; those that begin with a space are tables or commands, line by line."""
    return re.split(r"\n\s*\n", description.strip("\n"))


def picture(figure: Figure) -> str:
    """A figure as a data: address of an SVG."""
    file = io.BytesIO()
    figure.canvas.savefig(file, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(file.getvalue()).decode()}"


def markdown_page(content: Content, image_names: Sequence[str]) -> str:
    """The report as Markdown, with links to its pictures.

    Args:
        content: what it says.
        image_names: file names of the figures, in their order.
    """
    text = markdown_text
    parts = [f"# {text(content.title)}", text(content.summary)]
    parts.append(f"Data: {text(content.data_sets)}. Written {text(content.written)}.")
    parts += [text(note) for note in content.notes]
    parts += ["## Results", markdown_table(content.results)]
    if content.findings:
        parts += ["## Comparisons", _list(content.findings)]
    parts += [_list(content.methods)]
    if content.failures:
        lines = [f"{state}: {reason} ({', '.join(ids)})" for state, reason, ids in content.failures]
        parts += ["## Failures", _list(lines)]
    parts += ["## Figures"] if content.figures else []
    for figure, name in zip(content.figures, image_names, strict=True):
        parts.append(f"![{text(figure.name)}]({link(name)})\n\n{text(figure.caption)}")
    parts += ["## Runs", markdown_table(content.runs), "## Environment"]
    places = [f"{n} × {devices}: {versions}" for devices, versions, n in content.environments]
    parts.append(_list(places))
    if content.description:
        parts.append("## About this study")
    for block in blocks(content.description):
        parts.append(_verbatim(block) if block.startswith(" ") else text(block))
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def _verbatim(block: str) -> str:
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", block)), default=0))
    return f"{fence}\n{block}\n{fence}"


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {markdown_text(line)}" for line in lines)
