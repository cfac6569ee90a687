"""What the user sees: a table at the start, progress, a table at the end."""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from resnet_jax import models
from resnet_jax.config import Config, ModelConfig
from resnet_jax.console import make_console
from resnet_jax.errors import printable
from resnet_jax.interop.errors import describe_entry
from resnet_jax.models import onednn
from resnet_jax.models.convolution import VARIABLE
from resnet_jax.onednn_check import onednn_fault
from resnet_jax.training.experiment import Experiment
from resnet_jax.training.model import chosen_convolution

REFRESH_SECONDS = 0.2


def table(title: str, rows: Mapping[str, Any]) -> Table:
    """Two columns, names and values."""
    result = Table(title=printable(title), show_header=False, title_justify="left", min_width=60)
    result.add_column(style="bold", no_wrap=True)
    result.add_column(overflow="fold")
    for name, value in rows.items():
        result.add_row(name, printable(value))
    return result


def parts_table(title: str, summary: Mapping[str, Any]) -> Table:
    """The parts of a network (`summarize_config`), a row each, and their totals."""
    shown = "×".join(map(str, summary["image_shape"]))
    title = printable(f"{title}, images {shown}")
    result = Table(title=title, title_justify="left", show_footer=True)
    result.add_column("part", footer="total", style="bold")
    result.add_column("blocks", footer=str(sum(part["blocks"] for part in summary["parts"])))
    result.add_column("output")
    result.add_column("parameters", footer=f"{summary['parameters']:,}")
    result.add_column("multiply-adds", footer=f"{summary['macs'] / 1e6:,.1f} M")
    result.add_column("receptive field")
    for column in result.columns[1:]:
        column.justify = "right"
    for part in summary["parts"]:
        result.add_row(
            part["name"],
            str(part["blocks"] or ""),
            "×".join(map(str, part["output_shape"])),
            f"{part['parameters']:,}",
            f"{part['macs'] / 1e6:,.1f} M",
            f"{part['receptive_field']:,}",
        )
    return result


def describe(experiment: Experiment) -> dict[str, str]:
    """Rows of the table at the start: model, data, devices, batch."""
    config, facts, devices = experiment.config, experiment.facts, experiment.parallel.num_devices
    model, batch_size = config.model, config.train.batch_size
    height, width, channels = facts["image_shape"]
    shortcut = model.shortcut or models.FAMILIES[model.family].shortcut
    device = jax.devices()[0]
    processes = f", {jax.process_count()} processes" if jax.process_count() > 1 else ""
    total, epochs = experiment.total_steps, _epochs(experiment, experiment.total_steps)
    return {
        "model": f"{model.family} resnet, depth {model.depth}, shortcut {shortcut}, {model.dtype}",
        **_special_rows(experiment),
        "parameters": f"{experiment.parameters:,}" + (" trainable" if model.freeze else ""),
        "multiply-adds": f"{experiment.macs / 1e6:,.1f} million an image",
        "data": f"{facts['name']}: {facts['train_examples']:,} train, {facts['eval_examples']:,} "
        f"{facts['eval_split']}, {height}×{width}×{channels}, on the "
        + ("device" if facts["on_device"] else "host"),
        "devices": f"{devices} × {device.device_kind} ({config.parallel.mode}){processes}",
        "convolution": _convolution(config),
        "batch": f"{batch_size} ({batch_size // devices} a device)",
        "duration": f"{total:,} steps, {epochs:.4g} epochs",
    }


def _special_rows(experiment: Experiment) -> dict[str, str]:
    """Rows for what few runs have: further choices, weights to start from, frozen parts."""
    model, defaults, rows = experiment.config.model, ModelConfig(), {}
    shown = ("family", "depth", "shortcut", "dtype", "init_from", "init_entry", "freeze")
    fields = model.to_dict().items()
    others = {n: v for n, v in fields if v != getattr(defaults, n) and n not in shown}
    if others:
        rows["with"] = ", ".join(f"{name} {value}" for name, value in others.items())
    if experiment.pretrained is not None:
        report = experiment.pretrained.report
        classes, entry = report.other_classes, report.entry
        which = f", entry {describe_entry(entry, report.other_entries)}" if entry else ""
        but = "" if classes is None else f", without its classifier of {classes} classes"
        if experiment.pretrained.other_classes:
            but = f", without its classifier ({experiment.pretrained.other_classes})"
        rows["starts from"] = f"{model.init_from}{which}{but}"
    constants = experiment.inputs.preprocessing.mean, experiment.inputs.preprocessing.std
    if experiment.inputs.measured not in (None, constants):
        mean, std = (" ".join(f"{value:.4g}" for value in values) for values in constants)
        whose = "data.mean, data.std" if experiment.config.data.mean else "those of the weights"
        rows["normalised by"] = f"mean {mean}, std {std} ({whose})"
    if model.freeze:
        rows["frozen"] = ", ".join(model.freeze)
    return rows


def _convolution(config: Config) -> str:
    """Which convolution is used, and why not oneDNN's where that was looked for."""
    chosen, automatic = chosen_convolution(config), config.model.convolution == "auto"
    if chosen == "onednn":
        by_jaxlib = onednn.passes_of_onednn() is onednn.PASSES
        return "onednn, by jaxlib" if by_jaxlib else "onednn, by resnet_jax_native"
    if chosen != "loop_safe" or not automatic or os.environ.get(VARIABLE):
        return chosen
    fault = onednn_fault(config.model.dtype) or "one program over several devices"
    return f"{chosen} (not onednn: {fault})"


def _epochs(experiment: Experiment, step: int) -> float:
    return step * experiment.config.train.batch_size / experiment.num_examples


class Reporter:
    """Prints a run: a live bar on a terminal, one line an event elsewhere.

    Args:
        console: where to; stdout by default.
        quiet: print only warnings, to stderr.
    """

    def __init__(self, console: Console | None = None, quiet: bool = False) -> None:
        self.console = console or make_console(quiet=quiet)
        self._bar: Progress | None = None
        self._refreshed = 0.0
        self._last_step, self._batch_size = 0, 1

    def start(self, experiment: Experiment, workdirs: Sequence[str], step: int) -> None:
        """The table at the start, and the bar."""
        self._last_step = experiment.total_steps
        self._batch_size = experiment.config.train.batch_size
        title = f"Training in {workdirs[0]}"
        if len(workdirs) > 1:
            title = f"Training {len(workdirs)} runs together: {workdirs[0]}, …"
        self.console.print(table(title, describe(experiment)))
        for warning in experiment.warnings:
            self.warn(warning)
        if step:
            self.console.print(f"going on from the checkpoint of step {step:,}")
        if self.console.is_terminal:
            self._bar = Progress(
                BarColumn(),
                TextColumn("step {task.completed:,.0f}/{task.total:,.0f}"),
                TextColumn("{task.fields[numbers]}"),
                TimeRemainingColumn(),
                console=self.console,
            )
            self._task = self._bar.add_task(
                "train", total=experiment.total_steps, completed=step, numbers="compiling"
            )
            self._bar.start()

    def step(self, step: int, means: Mapping[str, float], images_per_second: float) -> None:
        """Move the bar; `means` are `loss` and `accuracy` since the last train line."""
        now = time.monotonic()
        too_soon = now - self._refreshed < REFRESH_SECONDS and step < self._last_step
        if self._bar is None or too_soon:
            return
        self._refreshed = now
        numbers = f"loss {means['loss']:.4f}  accuracy {means['accuracy']:.2%}"
        if images_per_second:
            numbers += f"  {images_per_second:,.0f} images/s"
        self._bar.update(self._task, completed=step, numbers=numbers)

    def event(self, line: Mapping[str, Any], name: str = "") -> None:
        """A line of metrics.jsonl, of the run `name`; on a terminal, train lines are left to the bar."""
        if self._bar is not None and line["event"] == "train":
            return
        text = (
            f"{line['event']:<5} step {line['step']:>7,}  epoch {line['epoch']:7.2f}  "
            f"loss {line['loss']:.4f}  accuracy {line['accuracy']:.2%}"
        )
        if "images_per_second" in line:
            text += f"  {line['images_per_second']:,.0f} images/s"
            # Of the time of a step; a few % are no news.
            waits = line.get("input_wait", 0) * line["images_per_second"] / self._batch_size
            if waits > 0.03:
                text += f"  waits for input {waits:.0%}"
        self.console.print(printable(f"{text}  {name}" if name else text))

    def warn(self, text: str) -> None:
        """A line that is no metric; what a quiet process finds only that one knows."""
        text = printable(text)
        if self.console.quiet:
            print(f"warning: process {jax.process_index()}: {text}", file=sys.stderr, flush=True)
        self.console.print(f"warning: {text}")

    def stop(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def result_rows(status: Mapping[str, Any]) -> dict[str, str]:
    """Rows of the table at the end, from status.json."""
    result = status.get("result", {})
    rows = {"state": status["state"], "steps": f"{status['step']:,} of {status['total_steps']:,}"}
    if result:
        averaged = ", averaged weights" if result.get("weights") == "averaged" else ""
        of = f"on {result['split']} ({result['examples']:,}){averaged}"
        rows["accuracy"] = f"{result['accuracy']:.2%} {of}"
        rows["loss"] = f"{result['loss']:.4f}"
    if "seconds" in status:
        rows["time"] = f"{status['seconds']:,.0f} s"
    return rows
