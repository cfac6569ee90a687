"""The sweep directory: the contract between a sweep and all that reads its results.

    sweep.json        the study: name, form, title, description, base config, runs (see `write`)
    runs/ID/          one run directory each (`training/run_directory.py`)
    compiled/         programs compiled once for all runs
    logs/             what the processes of the runs printed

sweep.json is replaced atomically. A run of it that has no directory yet has not started. This module
imports no JAX.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resnet_jax.errors import UserError
from resnet_jax.files import make_directory, write_file
from resnet_jax.strict_json import read_json, to_json
from resnet_jax.training.run_directory import RunDirectory


class SweepDirectory:
    """Reads and writes one sweep directory.

    Args:
        path: need not exist yet.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.runs = self.path / "runs"
        self.compiled = self.path / "compiled"
        self.logs = self.path / "logs"
        self._file = self.path / "sweep.json"

    def exists(self) -> bool:
        """Whether a sweep was started here."""
        return self._file.exists()

    def run(self, run_id: str) -> RunDirectory:
        """The directory of a run; it need not exist yet."""
        return RunDirectory(self.runs / run_id)

    def read(self) -> dict[str, Any]:
        """The study, as `write` wrote it.

        Raises:
            UserError: no sweep was started here, or the file is damaged.
        """
        try:
            return read_json(self._file)
        except FileNotFoundError as error:
            raise UserError(
                "directory",
                str(self.path),
                "holds no sweep.json: no sweep was started there",
                "give the --workdir of a sweep",
            ) from error
        except (ValueError, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError("directory", str(self._file), f"cannot be read ({reason})") from error

    def write(
        self,
        *,
        name: str,
        form: str | None,
        title: str,
        description: str,
        config_file: str,
        config: Mapping[str, Any],
        runs: Sequence[Mapping[str, Any]],
        **facts: Any,
    ) -> None:
        """Write sweep.json.

        Args:
            name: of the study, the config file's name without `.py`.
            form: what stood behind the colon of `--config=FILE:FORM`; None: nothing did.
            title, description: first line and whole of the config file's docstring.
            config_file: its path, as given.
            config: base config, nested.
            runs: `id`, `overrides` ({dotted field: value}, in the order of the file), `parameters`
                and `macs` of each run, in the order of the file.
            **facts: also `search`, …
        """
        study = {
            "name": name,
            "form": form,
            "title": title,
            "description": description,
            "config_file": config_file,
            **facts,
            "config": config,
            "runs": list(runs),
        }
        try:
            make_directory(self.runs)
            write_file(self._file, to_json(study, indent=2) + "\n")
        except OSError as error:
            reason = error.strerror or str(error)
            raise UserError(
                "--workdir",
                str(self.path),
                f"cannot be written ({reason})",
                "use another directory",
            ) from error
