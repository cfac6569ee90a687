"""The figures as files in the page's directory; older ones are removed."""

import re
from collections.abc import Sequence
from pathlib import Path

from resnet_jax.files import replaced
from resnet_jax.plotting.style import Figure
from resnet_jax.report.formats import linked_file

DOTS_PER_INCH = 300
# How the names of figures begin.
KINDS = ("curves", "error_by", "heat_map", "lowest_so_far", "search")


def save_pictures(figures: Sequence[Figure], page: Path, markdown: Path) -> list[Path]:
    """Write `PAGE_FIGURE.png`, and remove pictures that only the earlier report has.

    Args:
        figures: what is drawn now.
        page: the page.
        markdown: the earlier report, where there is one: it links its pictures.
    """
    images = [page.with_name(f"{page.stem}_{figure.name}.png") for figure in figures]
    for figure, image in zip(figures, images, strict=True):
        with replaced(image) as file:
            figure.canvas.savefig(file, dpi=DOTS_PER_INCH, format="png")
        # The second drawing, for the page, need not lay out again.
        figure.canvas.set_layout_engine("none")
    for old in _pictures_of(markdown, page.stem):
        if old not in images:
            old.unlink(missing_ok=True)
    return images


def _pictures_of(markdown: Path, stem: str) -> list[Path]:
    """The files that a report links and that have the names of its figures."""
    own_file = markdown.is_file() and not markdown.is_symlink()
    text = markdown.read_text(encoding="utf-8", errors="replace") if own_file else ""
    linked = re.findall(r"^!\[.*\]\((.*)\)$", text, re.MULTILINE)
    own = re.compile(rf"{re.escape(stem)}_({'|'.join(KINDS)})\w*\.png")
    names = map(linked_file, linked)
    return [markdown.with_name(name) for name in names if own.fullmatch(name)]
