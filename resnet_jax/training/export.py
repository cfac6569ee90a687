"""Files of a run's network, for use without this package."""

from functools import partial
from pathlib import Path

from resnet_jax.config import Config, override
from resnet_jax.errors import UserError
from resnet_jax.interop import save_weights
from resnet_jax.interop.export import ExportError, export_onnx, export_stablehlo
from resnet_jax.training.preparation import evaluated_image, preprocessing_of, stored
from resnet_jax.training.run_directory import RunDirectory
from resnet_jax.training.run_model import restore_model

WEIGHTS = ".safetensors"
PROGRAMS = {".stablehlo": export_stablehlo, ".onnx": export_onnx}


def export_run(run: RunDirectory, config: Config, out: str, which: str, raw: bool) -> str:
    """Write the network of a checkpoint.

    Args:
        run: its directory.
        config: of the run (`RunDirectory.load_config`).
        out: path; its suffix says which format, a key of `PROGRAMS` or `WEIGHTS`.
        which: `latest`, `best`, or the number of a step.
        raw: the program takes uint8 images and normalises them itself.

    Returns:
        What the file takes, in words.

    Raises:
        UserError: no such format or checkpoint, or one that cannot be exported or written.
    """
    path = Path(out)
    formats = (*PROGRAMS, WEIGHTS)
    if path.suffix not in formats:
        raise UserError("--out", out, f"its suffix is the format; allowed: {', '.join(formats)}")
    if path.is_dir():
        raise UserError("--out", out, "is a directory", "name a file")
    if raw and path.suffix == WEIGHTS:
        raise UserError("--raw", raw, f"{WEIGHTS} holds weights alone", "leave it out")
    if not path.absolute().parent.is_dir():
        raise UserError("--out", out, "its directory does not exist", "make it first")
    fields = {"model.convolution": "native"}
    if path.suffix == ".onnx":
        fields["model.dtype"] = "float32"
    facts = run.read_data()
    model, _ = restore_model(run, override(config, fields), which)
    if path.suffix == WEIGHTS:
        preprocessing = preprocessing_of(facts)
        write = partial(save_weights, model, path, preprocessing=preprocessing)
        takes = f"for images with {preprocessing}"
    else:
        normalize = (facts["mean"], facts["std"]) if raw else None
        image = evaluated_image(config, stored(facts).interpolation)
        height, width, channels = facts["image_shape"]
        size = image.geometry.size
        shape = (size or height, size or width, channels)
        program = PROGRAMS[path.suffix]
        write = partial(program, model, shape, path, normalize=normalize, views=image.views)
        what = "uint8" if raw else "normalised float32"
        takes = f"takes {what} images [batch, {', '.join(map(str, shape))}]"
    try:
        write()
    except (ExportError, OSError) as error:
        raise UserError("--out", out, str(error)) from error
    return takes
