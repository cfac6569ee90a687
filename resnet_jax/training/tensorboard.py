"""TensorBoard events beside metrics.jsonl, by the extra `tensorboard`."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resnet_jax.errors import UserError


def check_installed() -> None:
    """Raises UserError where the extra is missing."""
    if importlib.util.find_spec("tensorboardX") is None:
        raise UserError(
            "log.tensorboard",
            True,
            "needs tensorboardX",
            "run `pip install 'resnet-jax[tensorboard]'` or set it to False",
        )


class TensorBoard:
    """Writes lines of metrics.jsonl as scalars named `event/number`.

    Args:
        directory: of the event files.
        step: from which the run goes on; TensorBoard hides what was written behind it.
    """

    def __init__(self, directory: Path, step: int) -> None:
        import tensorboardX

        # Of a relative path, what stands before a colon is read as the scheme of a URL.
        path = str(directory.absolute())
        self._writer = tensorboardX.SummaryWriter(path, purge_step=step + 1)

    def write(self, line: Mapping[str, Any]) -> None:
        """Write the numbers of a line."""
        for name, value in line.items():
            if isinstance(value, int | float) and name != "step":
                self._writer.add_scalar(f"{line['event']}/{name}", value, line["step"])
        self._writer.flush()

    def close(self) -> None:
        """Close the file and end the thread that writes it."""
        self._writer.close()
