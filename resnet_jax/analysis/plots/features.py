"""Plots of `features`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes as Panel
from matplotlib.figure import Figure as Canvas

from resnet_jax.plotting.style import Figure, canvas_of, in_lines, panels_for

Arrays = Mapping[str, Any]
TILE = 1.0
COLOURS = "viridis"
PARTS = ("skip", "branch", "sum")


def similarity_figure(arrays: Arrays, names: Sequence[str]) -> Figure:
    """CKA of all pairs of layers, within each network and with the first."""
    rows = 2 if len(names) > 1 else 1
    canvas, panels = canvas_of(rows, len(names))
    layers = [arrays[f"{name}/layers"].values for name in names]
    for column, (name, own) in enumerate(zip(names, layers, strict=True)):
        panel = panels[0, column]
        drawn = _matrix(panel, arrays[f"{name}/similarity"].values, own, own)
        panel.set_title(in_lines(name))
        panel.set_xlabel("layer")
        if rows == 2 and column:
            panel = panels[1, column]
            _matrix(panel, arrays[f"{name}/similarity_with_first"].values, own, layers[0])
            panel.set_xlabel(in_lines(f"layer of {names[0]}"))
    panels[0, 0].set_ylabel("layer")
    if rows == 2:
        panels[1, 0].set_visible(False)
        panels[1, 1].set_ylabel("layer")
    canvas.colorbar(drawn, ax=panels, label="CKA", shrink=0.8)
    caption = (
        "Linear CKA of what layers put out; 0: the stem, then the blocks; lines: stages begin."
    )
    if rows == 2:
        caption += f" Below: with the layers of {names[0]}."
    return Figure("similarity", caption, canvas)


def _matrix(panel: Panel, values: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> Any:
    panel.grid(False)
    for names, line in ((rows, panel.axhline), (columns, panel.axvline)):
        for place, name in enumerate(names):
            if name.endswith("/block1"):
                line(place - 0.5, color="white", lw=0.7)
    return panel.imshow(values, vmin=0, vmax=1, cmap=COLOURS, origin="lower", aspect="auto")


def filter_figure(arrays: Arrays, names: Sequence[str]) -> Figure:
    """The kernels of the first convolution as small pictures."""
    canvas, _, used = panels_for(len(names))
    for panel, name in zip(used, names, strict=True):
        _picture(panel, _mosaic(arrays[f"{name}/filters"].values))
        panel.set_title(in_lines(name))
    caption = "Kernels of the first convolution; grey is 0, all of a network on one scale."
    return Figure("filters", caption, canvas)


def _mosaic(filters: np.ndarray) -> np.ndarray:
    """float[height, width, channels, filters] as one picture [rows, columns, 3], white between."""
    height, width, channels, count = filters.shape
    largest = np.abs(filters).max() or 1
    shown = 0.5 + filters / (2 * largest)
    if channels != 3:
        shown = np.repeat(shown.mean(2, keepdims=True), 3, 2)
    columns = int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    # Lines of a pixel would be as wide as a 3×3 kernel's own.
    zoom = max(1, 24 // height)
    gap = max(1, zoom * height // 8)
    mosaic = np.ones((rows * (zoom * height + gap) - gap, columns * (zoom * width + gap) - gap, 3))
    for index in range(count):
        top, left = (
            place * (zoom * size + gap)
            for place, size in zip(divmod(index, columns), (height, width), strict=True)
        )
        tile = shown[..., index].repeat(zoom, 0).repeat(zoom, 1)
        mosaic[top : top + zoom * height, left : left + zoom * width] = tile
    return mosaic


def map_figure(arrays: Arrays, name: str) -> Figure:
    """Mean over the channels of skip path, branch and their sum, in the last block of every stage."""
    images = arrays["images"].values
    stages = _stages(arrays, name, "skip")
    canvas, panels = _tiles(len(images), 1 + len(PARTS) * len(stages))
    for row, image in enumerate(images):
        _picture(panels[row, 0], image)
        for number, stage in enumerate(stages):
            parts = [arrays[f"{name}/{part}/{stage}"].values[row].mean(-1) for part in PARTS[:2]]
            parts.append(parts[0] + parts[1])
            largest = max(np.abs(values).max() for values in parts) or 1
            for place, (part, values) in enumerate(zip(PARTS, parts, strict=True)):
                panel = panels[row, 1 + len(PARTS) * number + place]
                _picture(panel, values, vmin=-largest, vmax=largest, cmap="RdBu_r")
                if row == 0:
                    panel.set_title(f"{stage}\n{part}" if place == 1 else f"\n{part}")
    caption = (
        f"{name}: last block of each stage, mean over the channels; skip path, branch, and their sum, "
        "before norm or ReLU, on one scale: white is 0, red above, blue below."
    )
    return Figure(f"maps_{_file_name(name)}", caption, canvas)


def activation_figure(arrays: Arrays, name: str, class_names: Sequence[str]) -> Figure:
    """Grad-CAM of every stage over the images."""
    images = arrays["images"].values
    stages = _stages(arrays, name, "activation")
    canvas, panels = _tiles(len(images), 1 + len(stages), width=1.4)
    truths, found = arrays["labels"].values, arrays[f"{name}/predicted"].values
    for row, image in enumerate(images):
        _picture(panels[row, 0], image)
        label = f"{class_names[truths[row]]}\n→ {class_names[found[row]]}"
        panels[row, 0].set_ylabel(label, rotation=0, ha="right", va="center")
        height, width = image.shape[:2]
        for column, stage in enumerate(stages, 1):
            panel = panels[row, column]
            _picture(panel, np.repeat(image.mean(-1, keepdims=True), 3, -1))
            values = arrays[f"{name}/activation/{stage}"].values[row]
            panel.imshow(
                values / (values.max() or 1),
                extent=(-0.5, width - 0.5, height - 0.5, -0.5),
                interpolation="bilinear",
                cmap="inferno",
                alpha=0.6,
                vmin=0,
                vmax=1,
            )
            if row == 0:
                panel.set_title(stage)
    caption = (
        f"{name}: Grad-CAM of the predicted class over the image, by stage, each on its own scale from "
        "dark (0) to light (most); label → prediction."
    )
    return Figure(f"activation_{_file_name(name)}", caption, canvas)


def _stages(arrays: Arrays, name: str, part: str) -> list[str]:
    prefix = f"{name}/{part}/"
    return [key.removeprefix(prefix) for key in arrays if key.startswith(prefix)]


def _tiles(rows: int, columns: int, width: float = 0.0) -> tuple[Canvas, np.ndarray]:
    """Small equal panels; `width`, in inches, is left for names."""
    size = (width + TILE * columns, 0.4 + TILE * rows)
    canvas = Canvas(figsize=size, layout="constrained")
    return canvas, canvas.subplots(rows, columns, squeeze=False)


def _picture(panel: Panel, values: np.ndarray, **options: Any) -> None:
    grey = values.ndim == 3 and values.shape[-1] == 1
    if grey:
        values, options = values[..., 0], {"vmin": 0, "vmax": 1, "cmap": "gray", **options}
    panel.imshow(values, interpolation="nearest", **options)
    panel.grid(False)
    panel.set(xticks=[], yticks=[])
    for spine in panel.spines.values():
        spine.set_visible(False)


def _file_name(name: str) -> str:
    return name.replace("/", "_")
