"""From the model section of a config to a function that builds the network."""

from collections.abc import Callable
from functools import partial
from operator import attrgetter

import jax
import jax.numpy as jnp
from flax import nnx

from resnet_jax import models
from resnet_jax.config import Config
from resnet_jax.errors import UserError, choose, nearest
from resnet_jax.models.convolution import VARIABLE
from resnet_jax.onednn_check import onednn_fault
from resnet_jax.training.parallel import Parallel
from resnet_jax.training.state import make_network

DTYPES = ("float32", "bfloat16", "float16", "float64")


def check_model(config: Config, model: models.ResNet, image_shape: tuple[int, int, int]) -> None:
    """Refuse fields that contradict each other, and images of which the stem leaves nothing.

    Args:
        config: the whole config.
        model: what it builds; may be abstract.
        image_shape: (height, width, channels).

    Raises:
        UserError: names the field.
    """
    if not models.count_parameters(model):
        raise UserError("model.freeze", config.model.freeze, "leaves nothing to train")
    if config.model.init_entry is not None and config.model.init_from is None:
        problem = "chooses within the file of model.init_from, which is None"
        raise UserError("model.init_entry", config.model.init_entry, problem)
    smallest = model.stem.smallest_image
    sides = [("data.image_size", config.data.image_size, min(image_shape[:2]))]
    sides += [("evaluate.scales", scale, scale) for scale in config.evaluate.scales]
    if config.evaluate.image_size is not None:
        sides.append(
            ("evaluate.image_size", config.evaluate.image_size, config.evaluate.image_size)
        )
    for field, value, side in sides:
        if side < smallest:
            small = f"images of {side} pixels are too small for the stem, which needs {smallest}"
            raise UserError(field, value, small, "take larger ones or another model.stem")
    if config.model.norm == "group":
        side = min(side for *_, side in sides)
        _check_groups(config, model, (side, side, image_shape[2]))


def _check_groups(config: Config, model: models.ResNet, image_shape: tuple[int, int, int]) -> None:
    try:
        models.count_macs(model, image_shape)
    except models.DegenerateStatisticsError as error:
        problem = (
            f"leaves groups of one value, as images of {image_shape[0]} pixels leave one pixel"
        )
        groups = config.model.norm_groups
        raise UserError(
            "model.norm_groups", groups, problem, "take fewer or larger ones"
        ) from error


def check_training(
    config: Config, num_classes: int, image_shape: tuple[int, int, int], parallel: Parallel
) -> None:
    """Refuse a config that can be evaluated but not trained.

    Args:
        config: the whole config.
        num_classes: size of the logits.
        image_shape: (height, width, channels).
        parallel: the devices.

    Raises:
        UserError: float16, whose gradients underflow; or a batch norm that would be given one value per
            channel.
    """
    model, parts = config.model, config.train.accumulate_steps
    if model.dtype == "float16":
        problem = "is not for training: its gradients underflow, and large activations overflow"
        raise UserError("model.dtype", model.dtype, problem, "use bfloat16")
    per_device = parallel.axis_name is not None and config.parallel.batch_statistics != "global"
    devices = parallel.num_devices if per_device else 1
    # Only statistics of a single image can be of a single value.
    if config.train.batch_size // (parts * devices) > 1:
        return
    network = make_network(model_builder(config, num_classes, image_shape[-1]))
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    weights, key = jax.eval_shape(network.initialise, jax.random.key(0)), jax.random.key(0)
    try:
        jax.eval_shape(network.train, weights["params"], weights["batch_stats"], images, key[None])
    except models.DegenerateStatisticsError as error:
        size = f"images of {image_shape[0]}×{image_shape[1]} leave one pixel"
        problem = f"leaves one image to a batch norm, and {size}: one value has no statistics"
        field = "train.batch_size"
        if per_device:
            field = "parallel.batch_statistics"
        elif parts > 1:
            field = "train.accumulate_steps"
        fix = "take more images at a time, larger ones, or model.norm 'group' or 'frozen_batch'"
        raise UserError(field, attrgetter(field)(config), problem, fix) from error


def model_builder(
    config: Config, num_classes: int, in_channels: int, norm_axis_name: str | None = None
) -> Callable[[nnx.Rngs], models.ResNet]:
    """The network of a config, frozen where it says so, as a function of its `nnx.Rngs`.

    Args:
        config: the whole config.
        num_classes: size of the logits.
        in_channels: channels of the images.
        norm_axis_name: mapped axis over which batch statistics are averaged.

    Raises:
        UserError: here or when it builds: a choice that does not exist or contradicts another.
    """
    fields = config.model.to_dict()
    del fields["num_classes"], fields["init_from"], fields["init_entry"]
    frozen = fields.pop("freeze")
    dtype = choose("model.dtype", fields.pop("dtype"), {name: name for name in DTYPES})
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise UserError("model.dtype", dtype, "needs JAX_ENABLE_X64=1 in the environment")
    fields["convolution"] = chosen_convolution(config)
    create = partial(
        models.resnet,
        num_classes=num_classes,
        in_channels=in_channels,
        dtype=dtype,
        norm_axis_name=norm_axis_name,
        **fields,
    )

    def build(rngs: nnx.Rngs) -> models.ResNet:
        try:
            model = create(rngs=rngs)
            models.freeze(model, frozen)
            return model
        except models.IllegalChoiceError as error:
            allowed, hint = f"allowed: {error.allowed}", nearest(str(error.value), error.known)
            raise UserError(f"model.{error.field}", error.value, allowed, hint) from error

    return build


def chosen_convolution(config: Config) -> str:
    """The implementation that `model.convolution` and `$RESNET_JAX_CONVOLUTION` name, or the automatic one.

    Raises:
        UserError: it cannot be used here, or the variable names none.
    """
    dtype, backend, field = config.model.dtype, jax.default_backend(), "model.convolution"
    names = {name: name for name in ("auto", *models.IMPLEMENTATIONS)}
    named = choose(field, config.model.convolution, names)
    if named == "auto":
        devices = config.parallel.num_devices or jax.device_count()
        together = devices if config.parallel.mode == "jit" else 1
        field = VARIABLE
        named = choose(field, models.automatic_implementation(backend, dtype, together), names)
    if named == "onednn":
        fault = onednn_fault(dtype) if backend == "cpu" else f"it needs a CPU, not a {backend}"
        if fault is not None:
            raise UserError(field, named, fault, "leave it at auto")
    return named
