"""Keep parts of a network as they are while the rest is trained."""

from collections.abc import Sequence

from flax import nnx

from resnet_jax.models.choices import IllegalChoiceError
from resnet_jax.models.normalization import BatchNorm


def freeze(model: nnx.Module, parts: Sequence[str]) -> None:
    """Freeze parts of a model in place: their parameters and their batch statistics.

    Their `nnx.Param`s become `nnx.BatchStat`s, which no gradient is taken of and no optimiser sees,
    and their batch norms use the running statistics in train mode too.

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
            for name, value in list(vars(module).items()):
                if isinstance(value, nnx.Param):
                    setattr(module, name, nnx.BatchStat(value.get_value()))
            if isinstance(module, BatchNorm):
                module.frozen = True
