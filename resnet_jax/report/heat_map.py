"""Final test error over two axes at once."""

import itertools
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes as Panel

from resnet_jax.plotting.style import Figure, canvas_of
from resnet_jax.report.axes import Axis
from resnet_jax.report.marks import slug
from resnet_jax.report.settings import Setting, all_failed
from resnet_jax.report.split import panel_grid, seeds_text


def heat_map(
    settings: Sequence[Setting], data: Axis | None, first: Axis, second: Axis, outer: str
) -> list[Figure]:
    """Mean final test error over two axes."""
    cells = list(itertools.chain.from_iterable(panel_grid(settings, data, None)))
    canvas, panels = canvas_of(1, len(cells))
    ns: list[int] = []
    for panel, (title, members) in zip(panels[0], cells, strict=True):
        ns += _heat_panel(panel, members, first, second)
        panel.set_title(title)
        panel.set_xlabel(second.label)
        panel.set_ylabel(first.label)
    if not ns:
        return []
    longest = max(len(first.value_label(value)) for value in first.values)
    widest = max(len(second.value_label(value)) for value in second.values)
    width = 0.07 * longest + 1.6 + max(0.5, 0.085 * widest) * len(second.values)
    canvas.set_size_inches(width * len(cells), 1.4 + 0.36 * len(first.values))
    caption = (
        f"{outer + ': ' if outer else ''}Final test error (%) by {first.label} and {second.label}: "
        f"means over {seeds_text(ns)}. ×: all runs diverged or failed; empty: not run or not done."
    )
    return [Figure(f"heat_map_{slug(first)}_{slug(second)}", caption, canvas)]


def _heat_panel(panel: Panel, settings: Sequence[Setting], first: Axis, second: Axis) -> list[int]:
    means = np.full((len(first.values), len(second.values)), np.nan)
    ns: list[int] = []
    texts: list[tuple[tuple[int, int], str, str]] = []
    for s in settings:
        place = first.values.index(s.values[first]), second.values.index(s.values[second])
        summary = s.summary("test")
        if summary is not None:
            means[place] = summary.mean
            ns.append(summary.n)
        elif all_failed(s):
            texts.append((place, "×", "black"))
    if not ns:
        return []
    # One setting that learns nothing must not flatten the others.
    limit = float(min(np.nanmax(means), 2.5 * np.nanmedian(means)))
    image = panel.imshow(means, cmap="viridis_r", vmax=limit, aspect="auto")
    for (row, column), mean in np.ndenumerate(means):
        if not np.isnan(mean):
            dark = mean > (np.nanmin(means) + limit) / 2
            texts.append(((row, column), f"{mean:.2f}", "white" if dark else "black"))
    for (row, column), text, colour in texts:
        panel.text(column, row, text, ha="center", va="center", color=colour, fontsize=8.5)
    panel.grid(visible=False)
    panel.set_xticks(range(len(second.values)), [second.value_label(v) for v in second.values])
    panel.set_yticks(range(len(first.values)), [first.value_label(v) for v in first.values])
    extend = "max" if np.nanmax(means) > limit else "neither"
    panel.figure.colorbar(image, ax=panel, label="final test error (%)", extend=extend)
    return ns
