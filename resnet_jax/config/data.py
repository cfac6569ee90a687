"""The section `data`: which images, and how training changes them."""

from dataclasses import dataclass

from resnet_jax.config.fields import Section, setting
from resnet_jax.config.rules import (
    LARGEST_SIDE,
    NO_OTHER_URL,
    NO_URL,
    NON_NEGATIVE,
    POSITIVE,
    PROBABILITY,
    SHARE,
    up_to,
)


@dataclass(frozen=True)
class DataConfig(Section):
    """The data set, how it is read, and augmentation."""

    name: str = setting(
        "digits",
        "digits, synthetic, folder:PATH, hf:NAME, hf:PATH, or a TFDS name such as cifar10",
        path=True,
    )
    data_dir: str | None = setting(
        None,
        "TFDS directory, None: $TFDS_DATA_DIR or TFDS's default; where a relative PATH begins",
        NO_OTHER_URL,
        runtime_only=True,
        path=True,
    )
    cache_dir: str | None = setting(
        None,
        "decoded images; None: $RESNET_JAX_CACHE or ~/.cache/resnet_jax",
        NO_URL,
        runtime_only=True,
        path=True,
    )
    train_split: str = setting("train", "split trained on; TFDS sub-splits work")
    eval_split: str | None = setting(None, "None: test, or else validation or val")
    image_size: int | None = setting(
        None, "height and width in pixels; None: the data set's own", up_to(LARGEST_SIDE)
    )
    crop_fraction: float = setting(
        1.0, "share of the shorter side that the centre crop to image_size keeps", SHARE
    )
    mean: tuple[float, ...] | None = setting(
        None,
        "of each channel, subtracted from pixels of 0 to 1; None: as for the weights "
        "in model.init_from, else as measured of the training images",
        PROBABILITY,
    )
    std: tuple[float, ...] | None = setting(
        None, "of each channel, which pixels are divided by; None: as of data.mean", POSITIVE
    )
    interpolation: str | None = setting(
        None,
        "filter that resizes images: bilinear, bicubic, lanczos or nearest; None: as for the "
        "weights in model.init_from, else bilinear",
    )
    random_resized_crop: bool = setting(
        False, "train on random crops of 8-100% of the area (placement stream only)"
    )
    placement: str = setting(
        "auto", "device (decoded once, kept there), stream, or auto: device if it fits"
    )
    max_device_bytes: int = setting(
        2**31, "largest decoded split that auto puts on the device, in bytes", POSITIVE
    )
    num_threads: int = setting(
        4, "threads that decode images, in each process", up_to(1024), runtime_only=True
    )
    num_processes: int = setting(
        0,
        "processes that decode streamed training images; 0: this one",
        up_to(1024, 0),
        runtime_only=True,
    )
    max_bad_examples: int = setting(
        0, "unreadable images that a run tolerates, of all splits", NON_NEGATIVE, runtime_only=True
    )
    repeats: int = setting(
        1, "times in a row that a batch has each image, each augmented on its own", up_to(10**6)
    )
    pad: int = setting(0, "zero padding before a random crop, in pixels", up_to(LARGEST_SIDE, 0))
    flip: bool = setting(False, "mirror left to right with probability 1/2")
    cutout: int = setting(0, "side of a square set to the mean, in pixels", up_to(LARGEST_SIDE, 0))
    brightness: float = setting(
        0.0, "jitter: times a factor from 1 - value to 1 + value", NON_NEGATIVE
    )
    contrast: float = setting(0.0, "jitter of the contrast, as of brightness", NON_NEGATIVE)
    saturation: float = setting(0.0, "jitter of the saturation, as of brightness", NON_NEGATIVE)
    hue: float = setting(
        0.0,
        "jitter: turn from -value to value, as a share of the colour circle",
        ("from 0 to 0.5", lambda v: 0 <= v <= 0.5),
    )
    pca_noise: float = setting(
        0.0,
        "deviation of a shift along ImageNet's principal colours; 0.1 is usual",
        NON_NEGATIVE,
    )
    policy: str = setting("none", "none, rand_augment or trivial_augment_wide: random operations")
    rand_augment_layers: int = setting(2, "operations on an image, in turn", up_to(100))
    rand_augment_magnitude: float = setting(
        9.0, "of the operations", ("from 0 to 10", lambda v: 0 <= v <= 10)
    )
    rand_augment_deviation: float = setting(
        0.0, "of normal noise added to each magnitude", NON_NEGATIVE
    )
    rand_augment_probability: float = setting(
        1.0, "that an operation drawn is applied", PROBABILITY
    )
    erase: float = setting(0.0, "probability of random erasing", PROBABILITY)
    erase_fill: str = setting("mean", "what is put there: mean or noise")
