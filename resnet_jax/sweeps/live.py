"""What the user sees while a sweep runs: a live table of all runs, or one line a change of state.

Everything is read from the run directories, wherever the runs are trained.
"""

import contextlib
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from resnet_jax.console import make_console
from resnet_jax.errors import UserError, printable
from resnet_jax.files import open_file
from resnet_jax.run_states import ENDED, FINAL, PENDING
from resnet_jax.strict_json import is_finite
from resnet_jax.sweeps.sweep_directory import SweepDirectory
from resnet_jax.training.metrics_log import metrics_line
from resnet_jax.training.run_directory import RunDirectory

REFRESH_SECONDS = 0.5
TAIL_BYTES = 4096
HEADS = ["run", "state", "step", "loss", "accuracy", "left"]
# In the order of the table; what is left out of it for want of room is its end.
STYLES = {
    "running": "bold cyan",
    "failed": "bold red",
    "diverged": "red",
    "interrupted": "yellow",
    "preempted": "yellow",
    "done": "green",
    "stopped": "green",
    PENDING: "dim",
}


class RunView:
    """What a run's files say; they are read again only when they have changed.

    Attributes:
        state: of status.json; `PENDING` before there is one.
        step, total: optimiser steps done and of the whole run; 0 while unknown.
        loss: of training, lately. None: not known yet.
        accuracy: of the last evaluation. None: not known yet.
        seconds: that the run has taken, those of earlier processes included.
        error: why it failed; empty otherwise.
    """

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self.state, self.error = PENDING, ""
        self.step = self.total = 0
        self.seconds = 0.0
        self.loss: float | None = None
        self.accuracy: float | None = None
        self._read: tuple[Any, ...] = ()

    def refresh(self) -> None:
        """Read what has changed."""
        files = self.run.path / "status.json", self.run.path / "metrics.jsonl"
        stamps = tuple(map(_stamp, files))
        if stamps == self._read:
            return
        self._read = stamps
        with contextlib.suppress(UserError):
            self._take_status(self.run.read_status())
        for line in _last_lines(files[1]) if stamps[1] else ():
            self._take_metrics(line)

    def _take_status(self, status: Mapping[str, Any]) -> None:
        self.state, self.error = status["state"], status.get("error", "")
        self.step, self.total = status["step"], status["total_steps"]
        self.seconds = status.get("seconds", 0.0)
        self.accuracy = status.get("result", {}).get("accuracy")

    def _take_metrics(self, line: Mapping[str, Any]) -> None:
        if line["event"] == "train":
            self.loss = line.get("loss")
        elif line["event"] == "eval":
            self.accuracy = line.get("accuracy")

    def whole_seconds(self) -> float | None:
        """What the whole run takes by its pace so far. None: nothing is known yet."""
        if self.state in ENDED and self.seconds:
            return self.seconds
        return self.seconds / self.step * self.total if self.step and self.seconds else None


def _stamp(path: Any) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _last_lines(path: Any) -> list[dict[str, Any]]:
    """The whole lines in the last few kilobytes of metrics.jsonl."""
    try:
        with open_file(path) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            lines = file.read().split(b"\n")
    except OSError:
        return []
    # The last piece is empty or being written; the first one may be cut in two.
    whole = map(metrics_line, lines[1 if size > TAIL_BYTES else 0 : -1])
    return [line for line in whole if line is not None and is_finite(line)]


class LiveTable:
    """A context that shows a sweep until its end.

    Args:
        directory: of the sweep.
        runs: run ids, in the order of the study.
        costs: run id → what the whole run costs, in any unit, for the estimate of the time left; runs
            cost the same where it is None.
        console: where to; stdout by default.
    """

    def __init__(
        self,
        directory: SweepDirectory,
        runs: Sequence[str],
        costs: Mapping[str, float] | None = None,
        console: Console | None = None,
    ) -> None:
        self.console = console or make_console(soft_wrap=False)
        self.views = {run_id: RunView(directory.run(run_id)) for run_id in runs}
        self.costs = costs or dict.fromkeys(runs, 1.0)
        self.title = printable(directory.path)
        self._live: Live | None = None
        self._refreshed = 0.0
        self._told: dict[str, str] = {}

    def __enter__(self) -> "LiveTable":
        self._refresh()
        self._told = self._states()
        if self.console.is_terminal:
            self._live = Live(self.render(), console=self.console, auto_refresh=False)
            self._live.start(refresh=True)
        return self

    def __exit__(self, *_: Any) -> None:
        self._refresh()
        self._show()
        if self._live is not None:
            self._live.stop()
            for run_id, view in self.views.items():
                if view.error and view.state != self._told[run_id]:
                    self.console.print(self._change(run_id, view), soft_wrap=True)

    def tick(self) -> None:
        """Show what is new; does nothing if it did so a moment ago."""
        if time.monotonic() - self._refreshed > REFRESH_SECONDS:
            self._refresh()
            self._show()

    def _refresh(self) -> None:
        for view in self.views.values():
            view.refresh()
        self._refreshed = time.monotonic()

    def _states(self) -> dict[str, str]:
        return {run_id: view.state for run_id, view in self.views.items()}

    def _show(self) -> None:
        # On a terminal, changes are told at the end, and only those for the worse.
        if self._live is not None:
            self._live.update(self.render(), refresh=True)
            return
        for run_id, view in self.views.items():
            if view.state != self._told[run_id]:
                self.console.print(self._change(run_id, view), soft_wrap=True)
        self._told = self._states()

    def _change(self, run_id: str, view: RunView) -> Text:
        ended = sum(view.state in FINAL for view in self.views.values())
        parts = [f"[{ended}/{len(self.views)}] {run_id}: {view.state}"]
        if view.state != "running" and view.total:
            parts.append(f"step {view.step:,} of {view.total:,}")
        if view.state == "done" and view.accuracy is not None:
            parts.append(f"accuracy {view.accuracy:.2%}")
        if view.error:
            parts.append(view.error)
        return Text(printable("  ".join(parts)))

    def render(self) -> Group:
        """The table and the line below it, cut to the height of the console."""
        order = list(STYLES)
        shown = sorted(self.views.items(), key=lambda item: order.index(item[1].state))
        # Above and below the rows: title, heads, three borders, those left out, overall, the cursor.
        room = max(1, self.console.height - 8)
        rows = [[run_id, *_cells(view)] for run_id, view in shown[:room]]
        others = sum(max(len(row[i]) for row in (HEADS, *rows)) + 3 for i in range(1, len(HEADS)))
        table = Table()
        for name in HEADS:
            side: Literal["left", "right"] = "left" if name in ("run", "state") else "right"
            table.add_column(name, justify=side, no_wrap=True)
        for run_id, state, *numbers in rows:
            name = _cut(printable(run_id), self.console.width - others - 4)
            table.add_row(name, Text(state, style=STYLES[state]), *numbers)
        left_out = Counter(view.state for _, view in shown[room:])
        more = [_line(f"and {_counts(left_out)}", "dim")] if left_out else []
        return Group(_line(self.title, "bold"), table, *more, _line(self.overall()))

    def overall(self) -> str:
        """How many runs are in each state, and about how long the rest takes."""
        text = f"{len(self.views)} runs: {_counts(Counter(self._states().values()))}"
        seconds = self.seconds_left()
        return text if seconds is None else f"{text}; about {duration(seconds)} left"

    def seconds_left(self) -> float | None:
        """Estimate for the whole sweep, by the pace of runs so far. None: nothing is known yet."""
        known = {i: s for i, v in self.views.items() if (s := v.whole_seconds()) is not None}
        cost = sum(self.costs[run_id] for run_id in known)
        open_runs = [i for i, v in self.views.items() if v.state not in FINAL]
        if not cost or not open_runs:
            return None
        pace = sum(known.values()) / cost
        total = 0.0
        for run_id in open_runs:
            whole = known.get(run_id, pace * self.costs[run_id])
            total += max(0.0, whole - self.views[run_id].seconds)
        return total / max(1, Counter(self._states().values())["running"])


def _line(text: str, style: str = "") -> Text:
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def _cut(name: str, width: int) -> str:
    """A name without its middle where it is longer than `width`: both ends of an id tell most."""
    if len(name) <= width:
        return name
    kept = max(0, width - 1)
    return f"{name[: kept // 2]}…{name[len(name) - (kept - kept // 2) :]}"


def _cells(view: RunView) -> list[str]:
    whole = view.whole_seconds() if view.state == "running" else None
    return [
        view.state,
        f"{view.step:,}/{view.total:,}" if view.total else "",
        "" if view.loss is None else f"{view.loss:.4f}",
        "" if view.accuracy is None else f"{view.accuracy:.2%}",
        "" if whole is None else duration(max(0.0, whole - view.seconds)),
    ]


def _counts(states: Mapping[str, int]) -> str:
    return ", ".join(f"{states[name]} {name}" for name in STYLES if states.get(name))


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 05 min` or `2 d 4 h`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{round(seconds)} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 60 * 24:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"
