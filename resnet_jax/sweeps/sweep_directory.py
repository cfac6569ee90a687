"""The sweep directory: the contract between a sweep and all that reads its results.

    sweep.json        the study: name, form, title, description, base config, runs (see `write`)
    runs/ID/          one run directory each (`training/run_directory.py`)
    logs/             what the processes of the runs printed
    .origin           whose sweep this is (`resnet_jax/origin.py`)

sweep.json is replaced atomically. A run of it that has no directory yet has not started. This module
imports no JAX.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resnet_jax import origin
from resnet_jax.config import flatten
from resnet_jax.errors import UserError
from resnet_jax.files import make_directory, write_file
from resnet_jax.strict_json import read_json, to_json
from resnet_jax.sweeps.run_ids import is_run_id
from resnet_jax.training.run_directory import RunDirectory


class SweepDirectory:
    """Reads and writes one sweep directory.

    Args:
        path: need not exist yet.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.runs = self.path / "runs"
        self.logs = self.path / "logs"
        self._file = self.path / "sweep.json"

    def exists(self) -> bool:
        """Whether a sweep was started here."""
        return self._file.exists()

    def run(self, run_id: str) -> RunDirectory:
        """The directory of a run; it need not exist yet."""
        return RunDirectory(self.runs / run_id)

    def read(self, check_runs: bool = True) -> dict[str, Any]:
        """The study, as `write` wrote it.

        Args:
            check_runs: False: the caller asks `check_run` of each, so that one hides no other.

        Raises:
            UserError: no sweep was started here, the file is corrupt, or the directory may come from
                somebody else and has links to outside of it.
        """
        if check_runs:
            origin.refuse_links(self.path)
        # The rest of a run is checked as it is read.
        for path in (*self.path.glob("*"), *self.runs.glob("*")):
            origin.refuse_link(self.path, path)
        try:
            study = read_json(self._file)
            _check(study)
            for run in study["runs"] if check_runs else ():
                check_run(run)
            return study
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
            origin.sign(self.path)
        except OSError as error:
            reason = error.strerror or str(error)
            raise UserError(
                "--workdir",
                str(self.path),
                f"cannot be written ({reason})",
                "use another directory",
            ) from error


def _check(study: Any) -> None:
    """Raises ValueError where the content of sweep.json is not of the kinds that `write` wrote."""
    kinds = {"name": str, "title": str, "description": str, "config": dict, "runs": list}
    if not isinstance(study, dict):
        raise ValueError("it holds no JSON object")
    for name, kind in kinds.items():
        if not isinstance(study.get(name), kind):
            raise ValueError(f"{name} is {study.get(name)!r}")
    for name, kind in (("form", str), ("search", dict)):
        if not isinstance(study.get(name), kind | None):
            raise ValueError(f"{name} is {study[name]!r}")
    _check_fields(flatten(study["config"]))


def check_run(run: Any) -> None:
    """Check an entry of `runs` in sweep.json.

    Raises:
        ValueError: it is not as `SweepDirectory.write` wrote it.
    """
    if not isinstance(run, dict) or not isinstance(run.get("overrides"), dict):
        raise ValueError(f"a run is {run!r}")
    if not is_run_id(run.get("id")):
        raise ValueError(f"{run.get('id')!r} is not the id of a run")
    _check_fields(run["overrides"])
    for name in ("parameters", "macs"):
        if not isinstance(run.get(name), int | None):
            raise ValueError(f"{name} of {run['id']} is {run[name]!r}")


def _check_fields(fields: Mapping[str, Any]) -> None:
    """Raises ValueError where the value of a field is no number, text or list of them."""
    for name, value in fields.items():
        parts = value if isinstance(value, list) else [value]
        if any(isinstance(part, dict | list) for part in parts):
            raise ValueError(f"{name} is {value!r}")
