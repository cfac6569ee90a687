"""Networks as files that run without this package: StableHLO for JAX, ONNX for other runtimes.

Both hold the weights, evaluate (running statistics, no dropout) and take any batch size. A StableHLO
file needs jax and flatbuffers only:

    from jax import export
    network = export.deserialize(bytearray(open("net.stablehlo", "rb").read()))
    logits = network.call(images)

An ONNX file has the input `images` and the output `logits`. Images are NHWC in both.
"""

import importlib.metadata
import importlib.util
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.extend import core

from resnet_jax.files import write_file
from resnet_jax.interop.replay import replay
from resnet_jax.models import Views, evaluation_view, mean_over_views, one_view

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
# The oldest that has every operator in the form that jax2onnx writes.
OPSET = 18
_TOLERANCE = 1e-3
_CHECKED_IMAGES = 3

Normalization = tuple[Sequence[float], Sequence[float]]


class ExportError(ValueError):
    """A network that cannot be exported; says what to do."""


def export_stablehlo(
    model: nnx.Module,
    image_shape: tuple[int, int, int],
    path: str | Path,
    *,
    normalize: Normalization | None = None,
    views: Views = one_view,
    platforms: Sequence[str] = PLATFORMS,
) -> None:
    """Write a network as a portable StableHLO program (`jax.export`).

    Args:
        model: maps float32[batch, height, width, channels] to logits; in any mode, and left in it.
        image_shape: (height, width, channels).
        path: of the file; replaced atomically.
        normalize: None: the file takes normalised float32 images, as the model does. (mean, std), one
            number a channel for pixel values scaled to 0 to 1: it takes uint8 images and normalises
            them itself.
        views: of the images, over which logits are averaged (`models.ten_crops`).
        platforms: backends of JAX that can run the file.

    Raises:
        OSError: the file cannot be written.
    """
    forward, images = _forward(model, image_shape, normalize, views)
    exported = jax.export.export(jax.jit(forward), platforms=platforms)(images)
    write_file(path, bytes(exported.serialize()))


def export_onnx(
    model: nnx.Module,
    image_shape: tuple[int, int, int],
    path: str | Path,
    *,
    normalize: Normalization | None = None,
    views: Views = one_view,
) -> None:
    """Write a network as ONNX by jax2onnx, and check by onnxruntime that it computes the same.

    Args:
        model: maps float32[batch, height, width, channels] to logits; in any mode, and left in it.
        image_shape: (height, width, channels).
        path: of the file; replaced atomically.
        normalize, views: as of `export_stablehlo`.

    Raises:
        ExportError: jax2onnx is not installed or cannot convert this network, or the network computes
            in half precision.
        OSError: the file cannot be written.
    """
    if importlib.util.find_spec("jax2onnx") is None:
        raise ExportError("ONNX needs jax2onnx: pip install 'resnet-jax[onnx]'")
    forward, images = _forward(model, image_shape, normalize, views)
    traced = jax.make_jaxpr(forward)(images)
    _refuse_half_precision(traced)
    try:
        converted = _convert(traced, images, type(model).__name__)
        _check_onnx(converted, forward, images)
    # A converter of a program that it does not know may fail in any way.
    except Exception as error:
        version = importlib.metadata.version("jax2onnx")
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise ExportError(
            f"jax2onnx {version} cannot convert this network ({reason}); export it as StableHLO"
        ) from error
    write_file(path, converted)


def _forward(
    model: nnx.Module,
    image_shape: tuple[int, int, int],
    normalize: Normalization | None,
    views: Views = one_view,
) -> tuple[Callable[[jax.Array], jax.Array], jax.ShapeDtypeStruct]:
    """The network in evaluation as a function of images alone, and their shape with an open batch size."""
    graphdef, arrays = nnx.split(evaluation_view(model))
    # Copies on one device: what is placed on a mesh would tie the program to it.
    weights = jax.tree.map(lambda a: jnp.asarray(jax.device_get(a)), nnx.to_pure_dict(arrays))

    def forward(images: jax.Array) -> jax.Array:
        if normalize is not None:
            mean, std = (255 * np.asarray(values, np.float32) for values in normalize)
            images = (images.astype(jnp.float32) - mean) / std
        return mean_over_views(nnx.merge(graphdef, weights), views(images))

    (batch,) = jax.export.symbolic_shape("batch")
    dtype = jnp.float32 if normalize is None else jnp.uint8
    return forward, jax.ShapeDtypeStruct((batch, *image_shape), dtype)


def _refuse_half_precision(traced: Any) -> None:
    for equation in traced.jaxpr.eqns:
        for variable in equation.outvars:
            if variable.aval.dtype in (jnp.bfloat16, jnp.float16):
                raise ExportError(
                    f"the network computes in {variable.aval.dtype}, for which onnxruntime has no "
                    "convolution on CPUs; build it with dtype float32, which its parameters have "
                    "anyway, or export it as StableHLO"
                )


def _convert(traced: core.ClosedJaxpr, images: jax.ShapeDtypeStruct, name: str) -> bytes:
    with _silenced("jax2onnx", "onnx_ir"):
        from jax2onnx import to_onnx

        return to_onnx(
            lambda x: replay(traced, [x])[0],
            inputs=[images],
            model_name=name,
            opset=OPSET,
            input_names=["images"],
            output_names=["logits"],
        ).SerializeToString()


@contextmanager
def _silenced(*names: str) -> Iterator[None]:
    """Keep loggers quiet: jax2onnx tells of every operator and shape that it does without."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _check_onnx(
    converted: bytes, forward: Callable[[jax.Array], jax.Array], images: jax.ShapeDtypeStruct
) -> None:
    """Compare the logits of random images.

    Raises:
        ValueError: they differ.
    """
    import onnxruntime

    shape = (_CHECKED_IMAGES, *images.shape[1:])
    rng = np.random.default_rng(0)
    if images.dtype == jnp.uint8:
        x = rng.integers(0, 256, shape, np.uint8)
    else:
        x = rng.standard_normal(shape, np.float32)
    expected = np.asarray(jax.jit(forward)(x))
    (logits,) = onnxruntime.InferenceSession(converted).run(None, {"images": x})
    difference = np.abs(logits - expected).max()
    if not difference <= _TOLERANCE * max(1e-6, np.abs(expected).max()):
        raise ValueError(f"its logits differ by {difference:.3g}")
