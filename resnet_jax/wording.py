"""How messages are worded, for rooms that know no config."""

from collections.abc import Iterable


def first_few(items: Iterable[object], most: int = 3) -> str:
    """`a, b, c and 12 more`: what a message prints of a list that may be long."""
    texts = [str(item) for item in items]
    more = len(texts) - most
    # One more is named sooner than counted.
    return ", ".join(texts) if more <= 1 else f"{', '.join(texts[:most])} and {more:,} more"
