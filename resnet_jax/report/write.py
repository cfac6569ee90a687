"""`launch.py report`: directories → a page and its files."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

from resnet_jax.errors import UserError
from resnet_jax.report import facts, formats
from resnet_jax.report.axes import find_axes
from resnet_jax.report.comparisons import compare
from resnet_jax.report.curves import curve_figures
from resnet_jax.report.figures import result_figures
from resnet_jax.report.labels import count
from resnet_jax.report.page import Content, html_page, markdown_page
from resnet_jax.report.settings import make_settings
from resnet_jax.report.study import Study, read_study
from resnet_jax.report.style import RC, Figure
from resnet_jax.report.tables import comparisons_table, results_table, runs_table

MOST_FIGURES = 24
DOTS_PER_INCH = 300


def write_report(paths: Sequence[str], out: str | None = None, latex: bool = False) -> list[Path]:
    """Read directories and write what came of their runs.

    Args:
        paths: sweep directories, run directories, or folders of them.
        out: the page; None: `report/report.html` in the first directory.
        latex: also write the table of results as LaTeX.

    Returns:
        The files: the page first. All begin with the page's name without `.html`.

    Raises:
        UserError: nothing to report on, or `out` cannot be written.
    """
    page = Path(out) if out is not None else Path(paths[0]) / "report" / "report.html"
    if page.suffix != ".html":
        raise UserError("--out", str(page), "must end in .html")
    study = read_study(paths)
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        return _write(study, page, latex)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            "--out", str(page), f"cannot be written ({reason})", "give another --out"
        ) from error


def _write(study: Study, page: Path, latex: bool) -> list[Path]:
    axes = find_axes(study)
    settings = make_settings(study, axes)
    comparisons = compare(settings, axes, study.base)
    results = results_table(settings, axes)

    def beside(ending: str) -> Path:
        return page.with_name(page.stem + ending)

    files = [beside(f"_{name}.csv") for name in ("results", "comparisons", "runs", "curves")]
    formats.write_results(files[0], settings, axes)
    formats.write_comparisons(files[1], comparisons)
    formats.write_runs(files[2], study)
    formats.write_curves(files[3], study)
    if latex:
        files.append(beside(".tex"))
        files[-1].write_text(formats.latex_table(results, study.title))
    with matplotlib.rc_context(RC):
        figures = [*curve_figures(study, settings, axes), *result_figures(settings, axes)]
        shown = figures[:MOST_FIGURES]
        images = [beside(f"_{figure.name}.png") for figure in shown]
        _save(shown, images)
        files += [beside(".md"), *images]
        notes = [*facts.tied_fields(axes), *_left_out(study, len(figures) - len(shown))]
        content = Content(
            title=study.title,
            description=study.description,
            summary=facts.summary_sentence(study, axes, settings),
            written=facts.now(),
            data_sets=facts.data_sets(study),
            notes=notes,
            results=results,
            comparisons=comparisons_table(comparisons),
            runs=runs_table(study),
            findings=[c.sentence() for c in comparisons if not c.waits],
            methods=facts.method_notes(comparisons, settings),
            failures=facts.failures(study.runs),
            figures=shown,
            environments=facts.environments(study.runs),
            files=[path.name for path in files],
        )
        page.write_text(html_page(content))
    beside(".md").write_text(markdown_page(content, [image.name for image in images]))
    return [page, *files]


def _save(figures: Sequence[Figure], images: Sequence[Path]) -> None:
    for figure, image in zip(figures, images, strict=True):
        figure.canvas.savefig(image, dpi=DOTS_PER_INCH)
        # The second drawing, for the page, need not lay out again.
        figure.canvas.set_layout_engine("none")


def _left_out(study: Study, figures: int) -> list[str]:
    lines = []
    if study.repeats:
        ids = ", ".join(study.repeats)
        lines.append(
            f"{count(len(study.repeats), 'run')} left out that repeat another's config: {ids}"
        )
    if figures:
        lines.append(f"{count(figures, 'more figure')} not drawn: report on a part of the runs")
    return lines
