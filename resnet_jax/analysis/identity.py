"""Weights with which a residual block returns its input (He et al. 2015, §3.1; Chen et al. 2016, "Net2Net",
§2.3)."""

from typing import Any, NamedTuple

import numpy as np
from flax import nnx

from resnet_jax.errors import UserError
from resnet_jax.models import IMPLEMENTATIONS, BatchNorm, Residual
from resnet_jax.models.normalization import NoNorm
from resnet_jax.models.shortcuts import (
    DropoutShortcut,
    NoShortcut,
    ProjectionShortcut,
    ZeroPadShortcut,
)

Arrays = dict[str, np.ndarray]


class Moments(NamedTuple):
    """Mean and variance of each channel of what a block is given: float32[channels]."""

    mean: np.ndarray
    var: np.ndarray


def identity_values(block: Residual, arrays: Arrays, moments: Moments) -> Arrays:
    """What to change in a fresh block so that it returns its input.

    A block with a shortcut has a branch that puts out zeros: its learned scale is 0, or else scale and
    bias of its last norm, or else, where no norm is last, its last convolution. All other weights stay
    as they were drawn, so that equal channels do not stay equal. A plain block has identity kernels.
    What norms remain on the way are undone: their γ and β are the deviation and the mean by which they
    normalise. That is exact with running statistics, but not with batch statistics. A ReLU on the way needs
    inputs that are not negative, as the outputs of a ReLU are.

    Args:
        block: of the network, not its first of a stage; its arrays may be stacked.
        arrays: of the block, by dotted name.
        moments: of the input, the running statistics of norms that are undone.

    Returns:
        The arrays that change.

    Raises:
        UserError: such a block cannot be the identity, or would not learn from there.
    """
    _check_evaluation(block)
    if isinstance(block.shortcut, NoShortcut):
        return _plain(block, arrays, moments)
    values = _silent_branch(block, arrays) | _open_shortcut(block, arrays, moments)
    if block.norm_position == "post":
        values |= _undo(block.norm, "norm", moments)
    return values


def _check_evaluation(block: Any) -> None:
    if block.drop_path is not None and not block.drop_path.scales_in_training:
        problem = (
            "branches are scaled in evaluation by their place in the depth, which a deeper network "
            "changes"
        )
        raise UserError("model.stochastic_depth_scaling", "test", problem, "only `train` works")


def _silent_branch(block: Any, arrays: Arrays) -> Arrays:
    branch = block.branch
    if block.scale is not None:
        return {"scale.value": np.zeros_like(arrays["scale.value"])}
    if branch.activates_end:
        problem = "a branch that ends with a ReLU gets no gradient where it puts out zeros"
        raise UserError("model.activation_order", "relu_before_addition", problem)
    last = f"norm{branch.num_layers}"
    norm = getattr(branch, last, None)
    moves = isinstance(norm, nnx.GroupNorm) or (isinstance(norm, BatchNorm) and not norm.frozen)
    if moves:
        names = [f"branch.{last}.scale", f"branch.{last}.bias"]
    else:
        _check_filters(branch)
        names = [f"branch.conv{branch.num_layers}.kernel"]
    return {name: np.zeros_like(arrays[name]) for name in names}


def _open_shortcut(block: Any, arrays: Arrays, moments: Moments) -> Arrays:
    shortcut = block.shortcut
    kind = type(shortcut)
    if kind in (ZeroPadShortcut, DropoutShortcut):
        return {}
    if kind is not ProjectionShortcut:
        raise UserError("model.shortcut", shortcut.kind, "no block of this kind returns its input")
    if block.activate_shortcut:
        problem = "a projection of what is activated already cannot return the input"
        raise UserError("model.shortcut", "C", problem)
    _check_filters(shortcut)
    kernel = {"shortcut.conv.kernel": _identity_kernel(arrays["shortcut.conv.kernel"].shape)}
    return kernel | _undo(shortcut.norm, "shortcut.norm", moments)


def _plain(block: Any, arrays: Arrays, moments: Moments) -> Arrays:
    branch = block.branch
    numbers = range(1, branch.num_layers + 1)
    kernels = {f"branch.conv{n}.kernel": arrays[f"branch.conv{n}.kernel"].shape for n in numbers}
    if block.activation_position == "pre":
        problem = "the ReLU before the convolutions changes inputs that are negative"
        raise _no_plain("model.activation_order", "pre-activation", problem)
    if len({shape[3] for shape in kernels.values()}) > 1:
        problem = "fewer filters than channels cannot pass all of them on"
        raise _no_plain("model.block", "bottleneck", problem)
    if branch.squeeze_excite is not None:
        problem = "gates scale what they are given"
        raise _no_plain("model.squeeze_reduction", "a number", problem)
    _check_filters(branch)
    values = {name: _identity_kernel(shape) for name, shape in kernels.items()}
    for number in numbers:
        norm = getattr(branch, f"norm{number}", NoNorm(0))
        values |= _undo(norm, f"branch.norm{number}", moments)
    if block.norm_position == "post":
        values |= _undo(block.norm, "norm", moments)
    return values


def _no_plain(field: str, value: str, problem: str) -> UserError:
    return UserError(field, value, f"a plain block like this is not the identity: {problem}")


def _identity_kernel(shape: tuple[int, ...]) -> np.ndarray:
    """float32[height, width, in_channels / groups, out_channels] that returns its input."""
    kernel = np.zeros(shape, np.float32)
    channels = np.arange(shape[3])
    kernel[shape[0] // 2, shape[1] // 2, channels % shape[2], channels] = 1
    return kernel


def _undo(norm: Any, name: str, moments: Moments) -> Arrays:
    """Arrays of a norm with which it returns an input of these moments."""
    if isinstance(norm, NoNorm):
        return {}
    if not isinstance(norm, BatchNorm):
        problem = "what it takes from each example cannot be given back by fixed numbers"
        raise UserError("model.norm", "group or layer", problem)
    values = {
        "mean": moments.mean,
        "var": moments.var,
        "scale": np.sqrt(moments.var + norm.epsilon),
        "bias": moments.mean,
    }
    return {f"{name}.{leaf}": value.astype(np.float32) for leaf, value in values.items()}


def _check_filters(layers: Any) -> None:
    convolution = getattr(layers, "conv1", None) or layers.conv
    if convolution.conv_general_dilated not in IMPLEMENTATIONS.values():
        problem = "standardised filters are neither zero nor the identity"
        raise UserError("model.weight_standardization", True, problem)
