"""Sources: a name stands for random-access examples and the facts about them."""

from dataclasses import replace

from resnet_jax.data.embedded import EMBEDDED
from resnet_jax.data.examples import Examples, Source
from resnet_jax.data.folder import folder_source
from resnet_jax.data.hugging_face import hugging_face_source
from resnet_jax.data.labels import LabelRange, checked
from resnet_jax.data.tfds import tfds_source

# A name `KIND:REST` is of another kind than TFDS.
KINDS = {"folder": folder_source, "hf": hugging_face_source}


def open_source(name: str, data_dir: str | None = None, image_size: int | None = None) -> Source:
    """The source of a name. The labels of its splits are checked (`labels.py`).

    Args:
        name: `digits`, `synthetic`, `folder:PATH`, `hf:NAME`, `hf:PATH`, or a TFDS name.
        data_dir: TFDS directory, or where a relative PATH begins.
        image_size: size that `synthetic` makes, pixels.

    Raises:
        UserError: no such data set, it is not prepared, or its directories are not in order.
    """
    source = _source(name, data_dir, image_size)

    def open_split(split: str) -> Examples:
        return checked(source.open(split), LabelRange(source.name, split, source.class_names))

    return replace(source, open=open_split)


def _source(name: str, data_dir: str | None, image_size: int | None) -> Source:
    if name in EMBEDDED:
        return EMBEDDED[name](image_size=image_size)
    kind, _, rest = name.partition(":")
    if kind in KINDS:
        return KINDS[kind](rest, data_dir)
    return tfds_source(name, data_dir)
