"""What is analysed: the network of a run or of a config, and examples of its data."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from resnet_jax import models
from resnet_jax.config import Config, load_config, override
from resnet_jax.data import cache
from resnet_jax.data.damage import DamagedImages
from resnet_jax.data.preprocessing import make_preprocessing
from resnet_jax.data.sources import open_source
from resnet_jax.errors import UserError, printable, warn
from resnet_jax.training.data_changes import refuse_other_classes
from resnet_jax.training.experiment import make_experiment
from resnet_jax.training.preparation import (
    EvaluatedImage,
    evaluated_image,
    stored,
)
from resnet_jax.training.run_directory import RunDirectory
from resnet_jax.training.run_model import model_at_start, restore_model


class Examples(NamedTuple):
    """Examples as the network takes them.

    Attributes:
        images: float32[examples, height, width, channels], normalised, not augmented.
        labels: int32[examples].
        facts: `data`, `split`, `examples` (how many), `seed` (of the draw).
    """

    images: np.ndarray
    labels: np.ndarray
    facts: dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """A network that is analysed.

    Attributes:
        name: for legends and files: of the run directory, or of the config file.
        config: all fields.
        data: facts about the data, as in data.json.
        run: its directory; None: there is none.
        model: in eval mode.
        step: of the checkpoint; 0: at initialisation.
    """

    name: str
    config: Config
    data: dict[str, Any]
    run: RunDirectory | None
    model: models.ResNet
    step: int

    def at(self, which: str) -> "Subject":
        """The same run at another checkpoint: `latest`, `best`, `init` or a number.

        Raises:
            UserError: there is no run or no such checkpoint.
        """
        if self.run is None:
            raise UserError("--step", which, "a config has no checkpoints", "give --workdir")
        model, step = restore_model(self.run, self.config, which)
        return replace(self, model=model, step=step)

    @property
    def evaluated_image(self) -> EvaluatedImage:
        """What evaluation makes of an image."""
        return self._image(averages=True)

    def _image(self, averages: bool) -> EvaluatedImage:
        return evaluated_image(self.config, stored(self.data).interpolation, averages)

    def examples(
        self,
        split: str | None,
        count: int | None,
        seed: int,
        or_fewer: bool = False,
        image: EvaluatedImage | None = None,
    ) -> Examples:
        """Examples of a split, resized, cropped and normalised as the run does.

        Args:
            split: None: the evaluation split of the run.
            count: how many, drawn without replacement and kept in their order; None: all.
            seed: of the draw.
            or_fewer: take all where there are fewer.
            image: what is read of each; None: the one view that the network sees where evaluation
                averages over none.

        Raises:
            UserError: no such data or split, other classes, fewer examples, corrupt images, or paths in
                the config of another user.
        """
        if self.run is not None:
            self.run.refuse_unconfirmed("data.name", "data.data_dir")
        data, split = self.config.data, split or self.data["eval_split"]
        image = image or self._image(averages=False)
        source = open_source(data.name, data.data_dir, data.image_size)
        refuse_other_classes(source.name, self.data["class_names"], source.class_names)
        examples = source.open(split)
        if count is not None and or_fewer:
            count = min(count, len(examples))
        if count is not None and not 1 <= count <= len(examples):
            allowed = f"from 1 to {len(examples)}, the examples of {split}, or 0 for all"
            raise UserError("--examples", count, f"allowed: {allowed}")
        rows = np.arange(len(examples))
        if count is not None:
            rows = np.sort(np.random.default_rng(seed).choice(rows, count, replace=False))
        shape = cache.image_shape(source, image.geometry.size)
        images, labels, problems = cache.read_images(
            examples, rows.tolist(), shape, image.geometry, data.num_threads
        )
        damaged = DamagedImages(data.max_bad_examples)
        for problem in problems:
            if problem is not None:
                damaged.add(problem)
        for damage in damaged.take_new():
            warn(f"unreadable image: {damage}")
        whole = np.array([problem is None for problem in problems], bool)
        mean, std = tuple(self.data["mean"]), tuple(self.data["std"])
        preprocessing = make_preprocessing(self.config, mean, std)
        normalised = np.asarray(jax.jit(preprocessing.normalise)(images[whole]))
        facts = {
            "data": source.name,
            "split": split,
            "examples": int(whole.sum()),
            "seed": seed if count is not None else None,
        }
        return Examples(normalised, labels[whole], facts)


def open_runs(
    workdirs: Sequence[str], overrides: Mapping[str, Any], which: str = "latest"
) -> list[Subject]:
    """The networks of runs.

    Args:
        workdirs: run directories.
        overrides: of fields that say where a run is, not what it is.
        which: the checkpoint: `latest`, `best`, a number, or `init`.

    Raises:
        UserError: one is no run directory, or has no such checkpoint.
    """
    subjects = []
    for name, workdir in zip(_names(workdirs), workdirs, strict=True):
        run = RunDirectory(workdir, writes=False)
        config, data = run.load_config(overrides), run.read_data()
        model, step = restore_model(run, config, which)
        subjects.append(Subject(name, config, data, run, model, step))
    return subjects


def open_config(path: str, overrides: Mapping[str, Any]) -> Subject:
    """The network of a config at initialisation.

    Raises:
        UserError: the config is illegal, or its data set is not there.
    """
    config = override(load_config(path), overrides)
    data = make_experiment(config, starts=True).facts
    model = model_at_start(config, data)
    return Subject(printable(Path(path).stem), config, data, None, model, 0)


def _names(workdirs: Sequence[str]) -> list[str]:
    """The last parts of the paths, printable, as many as tell them apart."""
    paths = [printable(os.path.abspath(workdir)).split("/") for workdir in workdirs]
    if len(set(map(tuple, paths))) < len(paths):
        raise UserError("--workdir", ", ".join(workdirs), "names a directory twice")
    length = 1
    # Matplotlib leaves a name that begins with `_` out of a legend.
    while len({tuple(path[-length:]) for path in paths}) < len(paths) or any(
        path[-length].startswith("_") for path in paths if length <= len(path)
    ):
        length += 1
    return ["/".join(path[-length:]) for path in paths]
