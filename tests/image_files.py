"""Image files of known content, in every form that a decoder meets."""

import io

import numpy as np
from PIL import Image


def scene(height=48, width=64, seed=0):
    """A smooth colour image, which JPEG keeps within a few levels: uint8[height, width, 3]."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def encoded(image, form="JPEG", **options):
    """The bytes of a file: of an array or a Pillow image."""
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def with_orientation(image, orientation, form="JPEG", **options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, form, exif=exif, **options)


def frames(form, first, **options):
    """An animation that begins with `first`."""
    others = [Image.fromarray(255 - first), Image.fromarray(first // 2)]
    return encoded(first, form, save_all=True, append_images=others, duration=100, **options)


def write_folder(root, files):
    """Write {path: bytes} below `root`; None makes a directory."""
    for path, content in files.items():
        if content is None:
            (root / path).mkdir(parents=True)
        else:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)
    return root
