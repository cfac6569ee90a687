"""`launch.py report`: directories → a page and its files."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

from resnet_jax import origin
from resnet_jax.errors import UserError
from resnet_jax.files import write_file
from resnet_jax.plotting.labels import count
from resnet_jax.plotting.style import RC
from resnet_jax.report import facts, formats
from resnet_jax.report.axes import Axes, find_axes
from resnet_jax.report.comparisons import Comparison, compare
from resnet_jax.report.confounded import Confounded, find_confounded
from resnet_jax.report.figures import figures_of
from resnet_jax.report.page import Content, html_page, markdown_page
from resnet_jax.report.pictures import save_pictures
from resnet_jax.report.settings import Setting, make_settings
from resnet_jax.report.study import Study, read_study
from resnet_jax.report.tables import comparisons_table, results_table, runs_table

MOST_FIGURES = 24


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
    page = Path(paths[0]) / "report" / "report.html" if out is None else Path(out)
    if page.suffix != ".html":
        raise UserError("--out", str(page), "must end in .html")
    if out is None:
        origin.refuse_link(Path(paths[0]), page.parent)
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
    comparisons: tuple[Comparison, ...] = ()
    confounded: tuple[Confounded, ...] = ()
    # The trials of a search were chosen by the results of others.
    if not study.search:
        comparisons = compare(settings, axes, study.base)
        confounded = find_confounded(settings, axes, study.base, comparisons)
    results = results_table(settings, axes)
    files = _write_numbers(study, axes, settings, comparisons, confounded, page)
    if latex:
        files.append(_beside(page, ".tex"))
        write_file(files[-1], formats.latex_table(results, study.title))
    markdown = _beside(page, ".md")
    with matplotlib.rc_context(RC):
        figures = figures_of(study, settings, axes)
        shown = figures[:MOST_FIGURES]
        images = save_pictures(shown, page, markdown)
        files += [markdown, *images]
        content = Content(
            title=study.title,
            description=study.description,
            summary=facts.summary_sentence(study, axes, settings),
            written=facts.now(),
            data_sets=facts.data_sets(study),
            notes=[
                *facts.tied_fields(axes),
                *facts.other_software(study.runs),
                *facts.incomplete_logs(study.runs),
                *_left_out(study, len(figures) - len(shown)),
            ],
            results=results,
            comparisons=comparisons_table(comparisons, confounded),
            runs=runs_table(study),
            findings=facts.findings(comparisons, confounded),
            methods=facts.method_notes(study, settings, comparisons, confounded),
            failures=facts.failures(study.runs),
            figures=shown,
            environments=facts.environments(study.runs),
            files=[path.name for path in files],
        )
        write_file(page, html_page(content))
    write_file(markdown, markdown_page(content, [image.name for image in images]))
    return [page, *files]


def _write_numbers(
    study: Study,
    axes: Axes,
    settings: Sequence[Setting],
    comparisons: Sequence[Comparison],
    confounded: Sequence[Confounded],
    page: Path,
) -> list[Path]:
    files = [_beside(page, f"_{n}.csv") for n in ("results", "comparisons", "runs", "curves")]
    formats.write_results(files[0], settings, axes)
    formats.write_comparisons(files[1], comparisons, confounded)
    formats.write_runs(files[2], study)
    formats.write_curves(files[3], study)
    return files


def _beside(page: Path, ending: str) -> Path:
    return page.with_name(page.stem + ending)


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
