"""Train and evaluation mode as views, which share their arrays with the module they are made of."""

from typing import TypeVar

from flax import nnx

M = TypeVar("M", bound=nnx.Module)


def training_view(model: M) -> M:
    """Batch norms use and track batch statistics; dropout and stochastic depth draw."""
    return _view(model, evaluating=False)


def evaluation_view(model: M) -> M:
    """Batch norms use running statistics; nothing is drawn."""
    return _view(model, evaluating=True)


def _view(model: M, evaluating: bool) -> M:
    return nnx.view(
        model, use_running_average=evaluating, deterministic=evaluating, raise_if_not_found=False
    )
