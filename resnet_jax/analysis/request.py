"""What an instrument is asked, and what it answers with."""

import argparse
import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import matplotlib
import numpy as np

from resnet_jax import __version__
from resnet_jax.analysis.items import over_items
from resnet_jax.analysis.subject import Examples, Subject
from resnet_jax.config import Config, flatten
from resnet_jax.errors import NotFiniteError, UserError
from resnet_jax.files import replaced, write_file
from resnet_jax.report.conditions import conditions_of
from resnet_jax.report.labels import enumerate_words, field_label
from resnet_jax.report.style import RC, Figure
from resnet_jax.strict_json import to_json
from resnet_jax.training.preparation import EvaluatedImage
from resnet_jax.training.state import weights_of

DOTS_PER_INCH = 200
# Options that change no number of a result.
PLACES = ("command", "workdir", "out", "json", "slurm")


class Named(NamedTuple):
    """An array of a result.

    Attributes:
        values: the numbers.
        axes: what each axis counts.
        unit: of the values; empty: they have none.
    """

    values: np.ndarray
    axes: tuple[str, ...]
    unit: str = ""


@dataclass(frozen=True)
class Answer:
    """The result of an instrument.

    Attributes:
        arrays: name → array; those of one network are named `NETWORK/NAME`.
        results: network → name → number or text: the few that one looks at first.
        figures: drawn from the arrays, under `style.RC` (`drawn`).
        examples: facts of the examples (`Examples.facts`).
        files: other files that were written.
    """

    arrays: dict[str, Named]
    results: dict[str, dict[str, Any]]
    figures: list[Figure]
    examples: dict[str, Any] = field(default_factory=dict)
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Request:
    """A call of an instrument from the command line.

    Attributes:
        subjects: the networks.
        options: of the command line; `split`, `examples`, `seed` and the instrument's own.
        out: directory of the files.
    """

    subjects: list[Subject]
    options: argparse.Namespace
    out: Path

    @property
    def name(self) -> str:
        """Of the instrument."""
        return self.options.analysis

    def examples(self, subject: Subject, image: EvaluatedImage | None = None) -> Examples:
        """Those that `--split`, `--examples` and `--seed` name; `image` as of `Subject.examples`."""
        o = self.options
        if o.examples is None and o.usual_examples:
            return subject.examples(o.split, o.usual_examples, o.seed, True, image)
        return subject.examples(o.split, o.examples or None, o.seed, image=image)

    def one_data_set(self) -> None:
        """Refuse networks of different data, or that are asked about different examples.

        Raises:
            UserError: names the first that differs.
        """
        facts = ("name", "image_shape", "class_names", "mean", "std")
        first = self.subjects[0]
        for other in self.subjects[1:]:
            split, usual = other.data["eval_split"], first.data["eval_split"]
            if not self.options.split and split != usual:
                problem = f"is {split} of {other.name} by default, and {usual} of {first.name}"
                raise UserError("--split", None, problem, "name one split for all")
            same = all(first.data[name] == other.data[name] for name in facts)
            if not same or other.evaluated_image != first.evaluated_image:
                problem = f"was trained on other data than {first.name}"
                raise UserError("--workdir", other.name, problem, "analyse them apart")

    def over_items(
        self, subject: Subject, label: str, function: Callable, shared: Any, items: Any, **how: int
    ) -> dict[str, np.ndarray]:
        """`items.over_items`, with a bar, from which the same command goes on where it was stopped.

        Args:
            subject: the network.
            label: what is computed; names it among all computations of this call for the subject.
            function, shared, items, **how: as of `items.over_items`.

        Raises:
            UserError: the directory cannot be written.
        """
        fingerprint = self._fingerprint(subject, label, (shared, items))
        kept = self._partial / f"{fingerprint}.npz"
        shown = f"{subject.name}: {label}"
        try:
            return over_items(function, shared, items, label=shown, kept=kept, **how)
        except OSError as error:
            raise self._unwritable(error) from error

    @property
    def _partial(self) -> Path:
        return self.out / f".{self.name}.partial"

    def _fingerprint(self, subject: Subject, label: str, arrays: Any) -> str:
        """Of all that the items depend on: another number of devices may split the examples otherwise."""
        told = [__version__, label, subject.config.to_dict(), self._options]
        found = hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode())
        for leaf in jax.tree.leaves(arrays):
            array = np.ascontiguousarray(leaf)
            found.update(f"{array.shape} {array.dtype}".encode())
            found.update(array.tobytes())
        return found.hexdigest()[:24]

    @property
    def _options(self) -> dict[str, Any]:
        """Those that a result depends on."""
        return {name: v for name, v in vars(self.options).items() if name not in PLACES}

    def _unwritable(self, error: OSError) -> UserError:
        problem = f"cannot be written ({error.strerror or error})"
        return UserError("--out", str(self.out), problem, "name another directory")

    def write(self, answer: Answer) -> list[Path]:
        """Write `NAME.npz`, `NAME.json` and `NAME_FIGURE.png`; the parts of a stopped call go.

        Raises:
            UserError: the directory cannot be written.
        """
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            arrays, facts = self.out / f"{self.name}.npz", self.out / f"{self.name}.json"
            _save_arrays(arrays, answer.arrays)
            write_file(facts, to_json(plain(self._facts(answer)), indent=2) + "\n")
            pictures = [self.out / f"{self.name}_{figure.name}.png" for figure in answer.figures]
            for figure, path in zip(answer.figures, pictures, strict=True):
                _save_figure(figure, path)
            shutil.rmtree(self._partial, ignore_errors=True)
        except OSError as error:
            raise self._unwritable(error) from error
        return [arrays, facts, *pictures, *answer.files]

    def _facts(self, answer: Answer) -> dict[str, Any]:
        differing = differing_fields([subject.config for subject in self.subjects])
        # No plot says which of several fields makes the networks differ.
        labels = enumerate_words([field_label(name) for name in differing]) if differing else ""
        note = f" The networks differ in {labels}." if labels else ""
        return {
            "analysis": self.name,
            "version": __version__,
            "options": self._options,
            "networks": [_describe(subject) for subject in self.subjects],
            "networks_differ_in": differing,
            "examples": answer.examples,
            "results": answer.results,
            "arrays": {
                name: {"axes": a.axes, "shape": np.shape(a.values), "unit": a.unit}
                for name, a in answer.arrays.items()
            },
            "figures": {figure.name: figure.caption + note for figure in answer.figures},
        }


def finite_logits(name: str, logits: np.ndarray) -> np.ndarray:
    """The logits of a network, float[examples, classes].

    Args:
        name: of the network.
        logits: of examples.

    Raises:
        NotFiniteError: some are not finite: the class with the highest one would mean nothing.
    """
    wrong = int((~np.isfinite(logits).all(-1)).sum())
    if wrong:
        raise NotFiniteError(f"{name}: logits of {wrong} of {len(logits)} examples are not finite")
    return logits


@contextmanager
def drawn() -> Iterator[None]:
    """Figures are made under this, in the style of the reports."""
    with matplotlib.rc_context(RC):
        yield


def differing_fields(configs: Sequence[Config]) -> dict[str, list[Any]]:
    """Dotted field → its value in each config, of the fields that change numbers and differ; no seed."""
    conditions = [conditions_of(flatten(config.to_dict())) for config in configs]
    names = dict.fromkeys(name for own in conditions for name in own)
    values = {name: [own.get(name) for own in conditions] for name in names}
    return {name: found for name, found in values.items() if len(set(found)) > 1}


def _describe(subject: Subject) -> dict[str, Any]:
    return {
        "name": subject.name,
        "workdir": str(subject.run.path) if subject.run else None,
        "step": subject.step,
        "weights": weights_of(subject.config),
        "seed": subject.config.seed,
        "model": subject.config.model.to_dict(),
        "data": subject.data["name"],
    }


def _save_arrays(path: Path, arrays: dict[str, Named]) -> None:
    with replaced(path) as file:
        values: Any = {name: np.asarray(array.values) for name, array in arrays.items()}
        np.savez(file, **values)


def _save_figure(figure: Figure, path: Path) -> None:
    with replaced(path) as file, drawn():
        figure.canvas.savefig(file, dpi=DOTS_PER_INCH, format="png")


def plain(value: Any) -> Any:
    """A tree of Python's and NumPy's numbers as JSON has them: what is not finite becomes None."""
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
