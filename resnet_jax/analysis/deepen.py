"""A deeper network that computes the same function (He et al. 2015, §3.1: "there exists a solution by
construction to the deeper model"; Chen et al. 2016, "Net2Net", §2.3)."""

import json
import shlex
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from resnet_jax.analysis.batches import in_batches
from resnet_jax.analysis.chain import Chain, last_of_stages, split_chain
from resnet_jax.analysis.identity import Moments, identity_values
from resnet_jax.analysis.items import over_items
from resnet_jax.analysis.request import Answer, Named, Request, finite_logits
from resnet_jax.analysis.subject import Examples, Subject
from resnet_jax.config import Config, flatten, override
from resnet_jax.errors import UserError, printable, told_of
from resnet_jax.files import write_file
from resnet_jax.interop import save_weights
from resnet_jax.interop.arrays import read_arrays, write_arrays
from resnet_jax.models import ResNet, Views, mean_over_views, one_view
from resnet_jax.models.shortcuts import DropoutShortcut
from resnet_jax.training.preparation import preprocessing_of
from resnet_jax.training.run_model import model_at_start

CONFIG = '''"""{title}. Written by `analyze deepen`.

{command}
"""

from pathlib import Path

from ml_collections import ConfigDict

from resnet_jax.config import default_config


def get_config() -> ConfigDict:
    config = default_config()
{fields}
    config.model.init_from = str(Path(__file__).with_name("deepened.safetensors"))
    return config
'''


def deepen(model: ResNet, deeper: ResNet, moments: list[Moments]) -> bool:
    """Make a fresh network compute what another does.

    The stem, the head and the first blocks of each stage become those of the other; the blocks behind
    them become identities (`identity.identity_values`).

    Args:
        model: is left as it is.
        deeper: of the same kind, with as many blocks in each stage or more; its arrays are set.
        moments: of the output of each stage of `model` (`run_network`).

    Returns:
        Whether training, too, begins with the same function. It does not where norms are undone, which
        is exact by running statistics only, nor where what is dropped at random changes with the depth.

    Raises:
        UserError: `deeper` is of another kind, or its blocks cannot be identities.
    """
    values, fresh = read_arrays(model), read_arrays(deeper)
    if any(name not in fresh or fresh[name].shape != a.shape for name, a in values.items()):
        blocks = [len(stage.survival) for stage in deeper.stages()]
        problem = "is no network with more blocks of the same kind in its stages"
        raise UserError("--depth", f"{blocks} blocks", problem, "name another depth")
    same_in_training = True
    stages = zip(model.stages(), deeper.stages(), moments, strict=True)
    for number, (old, new, stage_moments) in enumerate(stages, 1):
        block: Any = new.blocks[-1] if new.scanned is None else new.scanned
        for index in range(len(old.survival), len(new.survival)):
            prefix = f"stage{number}.blocks.{index}."
            own = {n.removeprefix(prefix): a for n, a in fresh.items() if n.startswith(prefix)}
            changed = identity_values(block, own, stage_moments)
            values |= {prefix + name: array for name, array in changed.items()}
            undoes_norms = any(name.endswith(".mean") for name in changed)
            draws = block.drop_path is not None or isinstance(block.shortcut, DropoutShortcut)
            same_in_training &= not (undoes_norms or draws)
    write_arrays(deeper, values)
    return same_in_training


def run_network(
    model: ResNet, images: np.ndarray, label: str = "", views: Views = one_view
) -> tuple[np.ndarray, list[Moments]]:
    """Logits of examples, and mean and variance of what each stage puts out.

    Args:
        model: in the mode that is meant; batch statistics are those of batches of 100.
        images: float32[examples, height, width, channels].
        label: of the progress bar.
        views: of the images, over which logits and moments are averaged.

    Returns:
        logits: float32[examples, classes]; and the moments of each stage, over examples and pixels.
    """
    chain, weights = split_chain(model)
    batches, _ = in_batches(images, np.zeros(len(images), np.int32))
    items = {"images": batches}
    result = over_items(partial(_run_batch, chain, views), weights, items, label=label)
    logits = result["logits"].reshape(-1, result["logits"].shape[-1])[: len(images)]
    moments = []
    for number in range(1, len(model.stages()) + 1):
        by_example = result[f"stage{number}"].astype(np.float64)
        means, variances = np.concatenate(list(by_example), 1)[:, : len(images)]
        # The variance over all pixels: the mean of those within examples, and that between them.
        moments.append(Moments(means.mean(0), variances.mean(0) + means.var(0)))
    return logits, moments


def _run_batch(
    chain: Chain, views: Views, weights: Any, item: dict[str, jax.Array]
) -> dict[str, jax.Array]:
    """Logits, and by stage float32[2, batch, channels]: mean and variance of each example's pixels."""

    def step(block: Any, x: jax.Array, _: Any) -> tuple[jax.Array, jax.Array]:
        y = block(x)
        precise = y.astype(jnp.promote_types(jnp.float32, y.dtype))
        return y, jnp.stack([precise.mean((1, 2)), precise.var((1, 2))])

    def of_view(images: jax.Array) -> dict[str, jax.Array]:
        x, kept = chain.blocks(weights, chain.stem(weights, images), step)
        return {"logits": chain.head(weights, x), **last_of_stages(chain, kept)}

    return mean_over_views(of_view, views(item["images"]))


def analyze(request: Request) -> Answer:
    """Deepen each network, compare it with what it was, and write what trains it on."""
    arrays: dict[str, Named] = {}
    results: dict[str, dict[str, Any]] = {}
    written = []
    facts: dict[str, Any] = {}
    for subject in request.subjects:
        config = _deeper_config(subject, request.options.depth)
        examples = request.examples(subject, subject.evaluated_image)
        deeper, numbers, difference = _deepened(subject, config, examples, request.options.seed)
        arrays[f"{subject.name}/logit_difference"] = Named(difference, ("example",))
        results[subject.name], facts = numbers, examples.facts
        out = request.out if len(request.subjects) == 1 else request.out / subject.name
        written.append((deeper, config, subject, out))
    # Nothing is written where one of them is refused.
    files = [path for parts in written for path in _write(*parts)]
    return Answer(arrays, results, [], facts, tuple(files))


def _deeper_config(subject: Subject, depth: int) -> Config:
    own = subject.config.model.depth
    if depth < own:
        raise UserError("--depth", depth, f"{subject.name} has {own} layers already")
    return override(subject.config, {"model.depth": depth, "model.init_from": None})


def _deepened(
    subject: Subject, config: Config, examples: Examples, seed: int
) -> tuple[ResNet, dict[str, Any], np.ndarray]:
    """The deeper network, numbers that compare the two, and `logit_difference`."""
    seeded = override(config, {"seed": seed})
    with told_of("--depth", instead_of="model.depth"):
        deeper = model_at_start(seeded, subject.data)
    images, views = examples.images, subject.evaluated_image.views
    old, moments = run_network(subject.model, images, f"{subject.name}: shallow", views)
    finite_logits(subject.name, old)
    same_in_training = deepen(subject.model, deeper, moments)
    new, _ = run_network(deeper, images, f"{subject.name}: deeper", views)
    difference = np.abs(new - old).max(1)
    numbers = {
        "layers": f"{subject.config.model.depth} → {config.model.depth}",
        "error": float((old.argmax(1) != examples.labels).mean()),
        "deeper_error": float((new.argmax(1) != examples.labels).mean()),
        "largest_logit_difference": float(difference.max()),
        "same_in": "evaluation and training" if same_in_training else "evaluation",
    }
    return deeper, numbers, difference


def _write(model: ResNet, config: Config, subject: Subject, out: Path) -> list[Path]:
    title = f"{subject.name} at step {subject.step} in {config.model.depth} layers"
    weights, path = out / "deepened.safetensors", out / "deepened.py"
    try:
        save_weights(model, weights, preprocessing=preprocessing_of(subject.data))
        write_file(path, config_text(config, title, path))
    except OSError as error:
        problem = f"cannot be written ({error.strerror or error})"
        raise UserError("--out", str(out), problem, "name another directory") from error
    return [weights, path]


def config_text(config: Config, title: str, path: Path) -> str:
    """A config file that starts from the weights beside it.

    Args:
        config: what it has, but for `model.init_from`.
        title: of its docstring.
        path: of the file.
    """
    defaults = flatten(Config().to_dict())
    lines = []
    for name, value in flatten(config.to_dict()).items():
        if value != defaults[name]:
            lines.append(f"    config.{name} = {_literal(value)}")
    command = f"python launch.py train --config={shlex.quote(str(path))} --workdir=DIR"
    title, command = _in_docstring(title), _in_docstring(command)
    return CONFIG.format(title=title, command=command, fields="\n".join(lines))


def _literal(value: Any) -> str:
    # Beyond ASCII, JSON writes pairs of surrogates.
    return json.dumps(value) if isinstance(value, str) and value.isascii() else ascii(value)


def _in_docstring(text: str) -> str:
    return printable(text).replace("\\", "\\\\").replace('"', '\\"')
