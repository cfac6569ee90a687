"""The run directory: the contract between training and all that reads its results.

    config.json       the full config
    data.json         name, splits, class names, image shape, mean and std of the data
    status.json       state, step, total steps, versions, devices, error (see `write_status`)
    metrics.jsonl     one JSON object a line: `event` (train, eval), `step`, `epoch`, and numbers
    checkpoints/      Orbax; one directory a step
    tensorboard/      event files, where `log.tensorboard` is set

The JSON files are replaced atomically and metrics.jsonl grows by whole lines, so the directory can be
read while the run goes on, and copied. This module imports no JAX.
"""

import datetime
import functools
import importlib.metadata
import json
import os
import platform
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from resnet_jax.config import FIELDS
from resnet_jax.config_file import differences, override
from resnet_jax.errors import UserError

STATES = ("running", "done", "interrupted", "preempted", "stopped", "diverged", "failed")


@functools.cache
def _versions() -> dict[str, str]:
    packages = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in packages
    }


class RunDirectory:
    """Reads and writes one run directory.

    Args:
        path: need not exist yet.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.tensorboard = self.path / "tensorboard"
        self._metrics = self.path / "metrics.jsonl"

    def create(self, config: Mapping[str, Any]) -> None:
        """Make the directory for a run of `config`, or check that it is of the same config.

        Raises:
            UserError: it belongs to another config, is not a run directory, or cannot be written.
        """
        if (self.path / "config.json").exists():
            lines = differences(self.read_config(), json.loads(json.dumps(config)))
            if lines:
                raise UserError(
                    "--workdir",
                    str(self.path),
                    f"holds a run of another config: {'; '.join(lines)}",
                    "use another directory, or that run's config",
                )
            self._writable()
            return
        # A status alone is that of a run whose process died before it began.
        others = {path.name for path in self.path.glob("*")} - {"status.json"}
        if others:
            raise UserError(
                "--workdir", str(self.path), "is not empty and holds no run", "use a new directory"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error
        self._write_json("config.json", config)

    def _writable(self) -> None:
        try:
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> UserError:
        reason = error.strerror or str(error)
        return UserError(
            "--workdir", str(self.path), f"cannot be written ({reason})", "use another directory"
        )

    def read_config(self) -> dict[str, Any]:
        """The config of the run.

        Raises:
            UserError: nothing was trained here, or the file is damaged.
        """
        return self._read_json("config.json")

    def load_config(self, overrides: Mapping[str, Any]) -> ConfigDict:
        """The config of the run, with fields changed that only say where it runs.

        Raises:
            UserError: as `read_config`; or an override that changes what was trained.
        """
        for name in overrides:
            if name in FIELDS and not FIELDS[name].place:
                places = ", ".join(name for name, field in FIELDS.items() if field.place)
                problem = f"belongs to the run; only these may change: {places}"
                raise UserError(f"--config.{name}", overrides[name], problem)
        return override(ConfigDict(self.read_config(), type_safe=False), overrides)

    def has_checkpoint(self) -> bool:
        """Whether a complete checkpoint is there."""
        return bool(self.checkpoint_steps())

    def checkpoint_steps(self) -> set[int]:
        """Steps of the complete checkpoints; Orbax gives others another kind of name."""
        return {int(path.name) for path in self.checkpoints.glob("*") if path.name.isdigit()}

    def state_when_over(self) -> str | None:
        """`diverged` or `stopped` where the run ended for good before its last step, else None."""
        if not (self.path / "status.json").exists():
            return None
        state = self.read_status()["state"]
        return state if state in ("diverged", "stopped") else None

    def read_data(self) -> dict[str, Any]:
        """Facts about the data, written by `write_data`."""
        return self._read_json("data.json")

    def read_status(self) -> dict[str, Any]:
        """The status, written by `write_status`."""
        return self._read_json("status.json")

    def write_data(self, facts: Mapping[str, Any]) -> None:
        """Write data.json."""
        self._write_json("data.json", facts)

    def write_status(self, state: str, step: int, total_steps: int, **facts: Any) -> None:
        """Write status.json.

        Args:
            state: one of `STATES`.
            step: optimiser steps done.
            total_steps: of the whole run.
            **facts: also `devices`, `error`, the final metrics, …
        """
        assert state in STATES, state
        status = {
            "state": state,
            "step": step,
            "total_steps": total_steps,
            "updated": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "versions": _versions(),
            **facts,
        }
        self._write_json("status.json", status)

    def log(self, event: str, step: int, **numbers: Any) -> dict[str, Any]:
        """Append a line to metrics.jsonl and return it."""
        line = {"event": event, "step": step, **numbers}
        try:
            with self._metrics.open("a") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise self._unwritable(error) from error
        return line

    def read_metrics(self) -> Iterator[dict[str, Any]]:
        """The lines of metrics.jsonl; a last line cut short by a crash is left out."""
        if not self._metrics.exists():
            return
        for line in self._metrics.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                yield json.loads(line)

    def forget_after(self, step: int) -> None:
        """Drop the lines of metrics.jsonl behind `step`, which a resumed run writes again."""
        if not self._metrics.exists():
            return
        lines = [line for line in self.read_metrics() if line["step"] <= step]
        self._write("metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))

    def _read_json(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            return json.loads(path.read_text())
        except FileNotFoundError as error:
            raise UserError(
                "--workdir",
                str(self.path),
                f"holds no {name}: nothing was trained there",
                "give the directory of a run, or run `train` first",
            ) from error
        except (ValueError, OSError) as error:
            raise UserError("--workdir", str(path), f"cannot be read ({error})") from error

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        self._write(name, json.dumps(content, indent=2) + "\n")

    def _write(self, name: str, text: str) -> None:
        temporary = self.path / f".{name}.{os.getpid()}"
        try:
            temporary.write_text(text)
            os.replace(temporary, self.path / name)
        except OSError as error:
            raise self._unwritable(error) from error
        finally:
            temporary.unlink(missing_ok=True)
