"""From a source to batches that the host decodes while the devices compute."""

import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar

import jax
import numpy as np

from resnet_jax.data.damage import DamagedImages
from resnet_jax.data.devices import SplittingDevices
from resnet_jax.data.examples import Examples
from resnet_jax.data.images import Geometry
from resnet_jax.data.preprocessing import Batch, Preprocessing
from resnet_jax.data.stream import HostBatch, HostStream, host_eval_batches


@dataclass(eq=False)
class Streaming:
    """Batches from the host; a call gets one batch, split over the devices.

    A thread keeps the next batch on the devices while a step runs. A compiled call takes two placed
    arguments: the batch, and nothing.

    Attributes:
        stream: of the training split.
        eval_examples: evaluation split.
        preprocessing: normalisation and augmentation.
        devices: where batches go.
        eval_batch_size: a multiple of the devices.
        eval_geometry, eval_shape: of the evaluated images, as of `host_eval_batches`.
        begin_process: called in each process that decodes, with its number and how many there are.
        damaged: counts corrupt images of both splits.
        measured: mean and standard deviation of each channel of the training images; None: they were
            not needed.
        placement: of the arguments of the run.
    """

    stream: HostStream
    eval_examples: Examples
    preprocessing: Preprocessing
    devices: SplittingDevices
    _: KW_ONLY
    eval_batch_size: int
    eval_geometry: Geometry
    eval_shape: tuple[int, int, int] | None = None
    begin_process: Callable[[int, int], None] | None = None
    damaged: DamagedImages = field(default_factory=lambda: DamagedImages(0))
    measured: Any = None
    placement: ClassVar[str] = "split"
    _waits: list[float] = field(default_factory=list, init=False)
    _next: tuple[Any, ...] = field(default=(), init=False)
    _batches: Any = field(default=None, init=False)

    @property
    def train_examples(self) -> Examples:
        """The training split."""
        return self.stream.examples

    @property
    def num_examples(self) -> int:
        """Training examples of an epoch."""
        return self.stream.num_examples

    def train_arguments(self, step: int, seed: int) -> tuple[Any, Any]:
        """Arguments of the training call at `step`; the next batches are made meanwhile.

        Raises:
            UserError: more images are unreadable than `data.max_bad_examples`; or a process that decodes
                was killed, or cannot be started.
        """
        begins = (step, seed) != self._next
        if begins:
            self._begin(step, seed)
        start = time.monotonic()
        placed, first, count = self._take()
        # Nothing could be made ahead of the first one, and the rate of images leaves it out too.
        if not begins:
            self._waits.append(time.monotonic() - start)
        for index, damaged in zip(first, count, strict=True):
            for example in range(index, index + damaged):
                self.damaged.note(self.train_examples, example % self.num_examples)
        self._next = step + 1, seed
        return placed, ()

    def close(self) -> None:
        """Stop to make batches."""
        if self._batches is not None:
            self._batches.close()
        self._batches, self._next = None, ()

    def take_wait(self) -> dict[str, float]:
        """`input_wait`: mean seconds that training calls waited for a batch since the last time.

        The first call does not count, as workers start in it.
        """
        waits, self._waits = self._waits, []
        return {"input_wait": round(sum(waits) / len(waits), 6)} if waits else {}

    def _begin(self, step: int, seed: int) -> None:
        from grain.experimental import ThreadPrefetchIterDataset

        self.close()
        placed = self.stream.dataset(step, seed, self.begin_process).map(self._place)
        self._batches = iter(ThreadPrefetchIterDataset(placed, prefetch_buffer_size=1))

    def _take(self) -> tuple[Any, np.ndarray, np.ndarray]:
        try:
            return next(self._batches)
        except (RuntimeError, OSError) as error:
            # Grain has no type for it.
            ended = re.search(r"Worker process was terminated .* exit code (-?\d+)", str(error))
            if ended is None:
                raise
            code = int(ended[1])
            why = {-signal.SIGBUS: "/dev/shm is too small", -signal.SIGKILL: "it was killed"}
            reason = why.get(code, f"exit code {code}")
            raise self.stream.process_failed(f"one of them ended ({reason})") from error

    def _place(self, batch: HostBatch) -> tuple[Any, np.ndarray, np.ndarray]:
        images = {name: batch[name] for name in ("image", "label")}
        return self.devices.split(images), batch["index"], batch["damaged"]

    def train_batch(
        self, arguments: tuple[Batch, tuple[()]], step: jax.Array, key: jax.Array
    ) -> Batch:
        """(A device's share of) the batch of `step` of the run with this key, traced."""
        batch, size = arguments[0], self.stream.batch_size
        return self.preprocessing.train_batch(
            batch["image"], batch["label"], key, step, size, self.devices.positions(size)
        )

    def eval_batches(self) -> Iterator[tuple[Any, Any]]:
        """Arguments of the evaluation calls.

        Raises:
            UserError: more images are unreadable than `data.max_bad_examples`.
        """
        size = self.eval_batch_size
        positions = range(size)[self.devices.share(size)]
        batches = host_eval_batches(
            self.eval_examples,
            self.eval_geometry,
            size,
            self.stream.num_threads,
            positions=positions,
            shape=self.eval_shape,
        )
        for number, batch in enumerate(batches):
            indices = number * size + np.asarray(positions)
            for index in indices[~batch["mask"] & (indices < len(self.eval_examples))]:
                self.damaged.note(self.eval_examples, int(index))
            yield self.devices.split(batch), ()

    def eval_batch(self, arguments: tuple[Batch, tuple[()]]) -> Batch:
        """(A device's share of) an evaluation batch, traced."""
        batch = arguments[0]
        return {**batch, "image": self.preprocessing.normalise(batch["image"])}
