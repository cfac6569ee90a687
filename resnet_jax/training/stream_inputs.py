"""Inputs of the compiled steps where batches come from the host; see `inputs.py`."""

import re
import signal
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from resnet_jax.data.damage import DamagedImages
from resnet_jax.data.examples import Examples
from resnet_jax.data.preprocessing import Preprocessing
from resnet_jax.data.stream import HostBatch, StreamData, host_eval_batches
from resnet_jax.training.interruption import end_with_parent
from resnet_jax.training.parallel import Parallel
from resnet_jax.training.steps import Batch


class StreamInputs:
    """Batches come from the host; a call gets one batch, split over the devices.

    A thread keeps the next batch on the devices while a step runs.

    Args:
        data: training stream.
        eval_examples: evaluation split.
        preprocessing: traced into the steps.
        parallel: where batches go.
        eval_batch_size: a multiple of the devices.
        eval_reading: further arguments of `host_eval_batches`.
        damaged: counts damaged images of both splits.
        measured: mean and standard deviation of each channel of the training images; None: they were
            not needed.
    """

    placement = "split"

    def __init__(
        self,
        data: StreamData,
        eval_examples: Examples,
        preprocessing: Preprocessing,
        parallel: Parallel,
        eval_batch_size: int,
        eval_reading: Mapping[str, Any],
        damaged: DamagedImages,
        measured: Any = None,
    ) -> None:
        self.data, self.preprocessing, self.parallel = data, preprocessing, parallel
        self.eval_examples, self.eval_batch_size = eval_examples, eval_batch_size
        self.damaged, self._eval_reading = damaged, eval_reading
        self.measured = measured
        self._waits: list[float] = []
        self._next: tuple[Any, ...] = ()
        self._batches: Any = None

    def train(self, step: int, seeds: tuple[int, ...]) -> tuple[Any, Any]:
        """Arguments of the training call at `step`; the next batches are made meanwhile.

        Args:
            step: of the run.
            seeds: that of one run; runs that stream are not trained together.

        Raises:
            UserError: more images are unreadable than `data.max_bad_examples`; or a process that decodes
                was killed, or cannot be started.
        """
        (seed,) = seeds
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
                self.damaged.note(self.data.examples, example % self.data.num_examples)
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
        placed = self.data.dataset(step, seed, end_with_parent).map(self._place)
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
            raise self.data.process_failed(f"one of them ended ({reason})") from error

    def _place(self, batch: HostBatch) -> tuple[Any, np.ndarray, np.ndarray]:
        images = {name: batch[name] for name in ("image", "label")}
        return self.parallel.split(images), batch["index"], batch["damaged"]

    def train_batch(
        self, step: jax.Array, key: jax.Array, batch: Batch, shared: tuple[()]
    ) -> Batch:
        """The batch of `step` of the run with this key, traced."""
        positions = self.parallel.positions(self.data.batch_size)
        return self.preprocessing.train_batch(
            batch["image"], batch["label"], key, step, self.data.batch_size, positions
        )

    def evaluation(self) -> Iterator[tuple[Any, Any]]:
        """Arguments of the evaluation calls.

        Raises:
            UserError: more images are unreadable than `data.max_bad_examples`.
        """
        size = self.eval_batch_size
        positions = range(size)[self.parallel.share(size)]
        batches = host_eval_batches(
            self.eval_examples, batch_size=size, positions=positions, **self._eval_reading
        )
        for number, batch in enumerate(batches):
            indices = number * size + np.asarray(positions)
            for index in indices[~batch["mask"] & (indices < len(self.eval_examples))]:
                self.damaged.note(self.eval_examples, int(index))
            yield self.parallel.split(batch), ()

    def eval_batch(self, batch: Batch, shared: tuple[()]) -> Batch:
        """The evaluation batch, traced."""
        return {**batch, "image": self.preprocessing.normalise(batch["image"])}
