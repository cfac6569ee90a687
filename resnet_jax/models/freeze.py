"""Keep parts of a network fixed while the rest is trained."""

from collections.abc import Sequence
from typing import Any

from flax import nnx

from resnet_jax.models.choices import IllegalChoiceError
from resnet_jax.models.normalization import FROZEN, BatchNorm


def trainable(path: Any, value: Any) -> bool:
    """A filter of NNX (`nnx.split`, `nnx.state`): every `nnx.Param` that is not frozen."""
    del path
    return isinstance(value, nnx.Param) and not value.get_metadata("frozen", False)


def freeze(model: nnx.Module, parts: Sequence[str]) -> None:
    """Freeze parts of a model in place: their parameters and their batch statistics.

    Their `nnx.Param`s are marked, so that `trainable` leaves them out, and their batch norms use the
    running statistics in train mode too. What trains must be selected by `trainable`:
    `nnx.split(model, trainable, ...)`, `nnx.Optimizer(model, tx, wrt=trainable)`.

    Args:
        model: any module.
        parts: names of its attributes (`stem`, `stage1`), or dotted ones below them
            (`stage1.blocks.0.branch`).

    Raises:
        IllegalChoiceError: the model has no such part.
    """
    modules = {".".join(map(str, path)): m for path, m in nnx.iter_modules(model) if path}
    for part in parts:
        if part not in modules:
            top = [name for name in modules if "." not in name]
            allowed = f"{', '.join(top)}, or a dotted name below them"
            raise IllegalChoiceError("freeze", part, allowed, top)
        for _, module in nnx.iter_modules(modules[part]):
            for value in vars(module).values():
                if isinstance(value, nnx.Param):
                    value.set_metadata(**FROZEN)
            if isinstance(module, BatchNorm):
                module.frozen = True
