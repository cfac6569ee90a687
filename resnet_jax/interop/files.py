"""Writing files whole or not at all."""

import os
import uuid
from pathlib import Path


def write_atomically(path: str | Path, content: bytes) -> None:
    """Replace a file at once, by way of a temporary one beside it.

    Raises:
        OSError: it cannot be written; the old one is as it was.
    """
    path = Path(path)
    # Not longer than the name itself may be.
    partial = path.with_name(f".{os.getpid()}.{uuid.uuid4().hex[:8]}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
