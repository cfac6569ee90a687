"""Final test error by category, such as shortcut or order of activations."""

import itertools
from collections.abc import Sequence

from matplotlib.axes import Axes as Panel

from resnet_jax.plotting.style import Figure, Look, canvas_of, shared_legend
from resnet_jax.report.axes import Axis
from resnet_jax.report.marks import (
    FAILED_CAPTION,
    INTERVALS,
    bars,
    end_of_scale,
    error_bars,
    literature,
    looks,
    sign,
    slug,
)
from resnet_jax.report.settings import Setting, all_failed
from resnet_jax.report.split import panel_grid, seeds_text


def categories(
    settings: Sequence[Setting], data: Axis | None, axis: Axis, hue: Axis | None, outer: str
) -> list[Figure]:
    """Final test error by category: means with intervals, and every seed as a dot."""
    cells = list(itertools.chain.from_iterable(panel_grid(settings, data, None)))
    canvas, panels = canvas_of(1, len(cells), sharey=True)
    ns: list[int] = []
    for panel, (title, members) in zip(panels[0], cells, strict=True):
        ns += _category_panel(panel, members, axis, hue)
        panel.set_title(title)
        panel.set_xlabel("final test error (%)")
    if not ns:
        return []
    panels[0, 0].set_yticks(range(len(axis.values)), [axis.value_label(v) for v in axis.values])
    panels[0, 0].invert_yaxis()
    rows = len(axis.values) * (len(hue.values) if hue else 1)
    longest = max(len(axis.value_label(value)) for value in axis.values)
    canvas.set_size_inches(0.07 * longest + 3.0 * len(cells), max(2.2, 0.9 + 0.24 * rows))
    shared_legend(canvas, list(panels.flat))
    caption = (
        f"{outer + ': ' if outer else ''}Final test error by {axis.label}. Points: means over "
        f"{seeds_text(ns)}; {INTERVALS}; small dots: single seeds."
    )
    if any(map(all_failed, settings)):
        caption += FAILED_CAPTION
    return [Figure(f"error_by_{slug(axis)}", caption, canvas)]


def _category_panel(
    panel: Panel, settings: Sequence[Setting], axis: Axis, hue: Axis | None
) -> list[int]:
    ns = []
    values = hue.values if hue else (None,)
    step = 0.7 / len(values)
    for i, (value, look) in enumerate(zip(values, looks(hue), strict=True)):
        label = "" if hue is None else hue.value_label(value)  # type: ignore[arg-type]
        label = f"{hue.label} {label}" if hue and hue.is_numeric else label
        look = Look(look.colour, look.marker, "")
        for setting in settings:
            if hue is not None and setting.values[hue] != value:
                continue
            y = axis.values.index(setting.values[axis]) + step * (i - (len(values) - 1) / 2)
            summary = setting.summary("test")
            if summary is not None:
                dots = list(setting.errors("test").values())
                panel.plot(dots, [y] * len(dots), ".", color=look.colour, ms=4, alpha=0.45)
                error_bars(panel, [summary.mean], [y], look, label, xerr=bars([summary]))
                ns.append(summary.n)
            elif all_failed(setting):
                transform = panel.get_yaxis_transform()
                sign(panel, [0.97], [y], "all failed", look, transform=transform)
            published = literature(setting)
            if published is not None:
                sign(panel, [published], [y], "literature", look)
    means = [summary.mean for setting in settings if (summary := setting.summary("test"))]
    left, right = panel.get_xlim()
    panel.set_xlim(max(0.0, left), end_of_scale(means, right))
    return ns
