"""What values of a field are legal, each rule in words and as a predicate."""

from collections.abc import Callable
from typing import Any

from resnet_jax.paths import is_url

Rule = tuple[str, Callable[[Any], bool]]

ANY: Rule = ("anything", lambda v: True)
POSITIVE: Rule = ("greater than 0", lambda v: v > 0)
NON_NEGATIVE: Rule = ("0 or greater", lambda v: v >= 0)
FRACTION: Rule = ("from 0 to 1, without 1", lambda v: 0 <= v < 1)
SHARE: Rule = ("greater than 0, at most 1", lambda v: 0 < v <= 1)
PROBABILITY: Rule = ("from 0 to 1", lambda v: 0 <= v <= 1)
NO_URL: Rule = ("a path of a mounted file system, not a URL", lambda v: not is_url(v))
# TFDS itself reads buckets of Google.
NO_OTHER_URL: Rule = (
    "a path of a mounted file system, or gs://… for TFDS",
    lambda v: not is_url(v) or v.startswith("gs://"),
)
# Pixels a side of an image.
LARGEST_SIDE = 8192


def up_to(most: int, least: int = 1) -> Rule:
    """Whole numbers up to a limit beyond any use: a larger one is a slip, and would never end."""
    return f"from {least} to {most}", lambda v: least <= v <= most
