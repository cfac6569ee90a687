"""The stream: batches decoded on the host through Grain. This module imports no JAX.

The order and the random number of a crop belong to the whole batch: both are functions of the
seed and the position in the endless stream (`on_device.py`). A process then makes the positions that
are its share, so a batch is the same for any number of processes and workers.
"""

import contextlib
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from resnet_jax.data.decoding import DamagedImageError, Pixels
from resnet_jax.data.examples import Examples
from resnet_jax.data.images import Geometry, random_resized_crop, sized
from resnet_jax.errors import UserError

HostBatch = dict[str, np.ndarray]


class HostStream:
    """A training split decoded on the host by threads or processes.

    Args:
        examples: random access to the split.
        batch_size: of the whole batch.
        geometry: of the images.
        shape: (height, width, channels) that images must have where the geometry has no size; None:
            that of the first one that can be read.
        random_crop: random resized crops instead of the centre; they need a size.
        num_threads: threads that decode, in each process.
        num_processes: processes that decode; 0: this one.
        repeats: positions in a row that an example of the order takes, with crops of their own.
        positions: of the batch, that are made here; None: all.
        max_damaged: damaged examples in a row that the next one of the split stands in for.
    """

    def __init__(
        self,
        examples: Examples,
        geometry: Geometry,
        *,
        batch_size: int,
        shape: tuple[int, int, int] | None = None,
        random_crop: bool = False,
        num_threads: int = 4,
        num_processes: int = 0,
        repeats: int = 1,
        positions: range | None = None,
        max_damaged: int = 0,
    ) -> None:
        self.examples, self.num_examples = examples, len(examples)
        self.batch_size, self.positions = batch_size, positions or range(batch_size)
        self.num_threads, self.num_processes = num_threads, num_processes
        self.repeats = repeats
        self._attempts = min(max_damaged + 1, self.num_examples)
        self.geometry, self._random_crop = geometry, random_crop
        self._shape = shape or _first_shape(examples, geometry)

    def host_batch(self, step: int, seed: int) -> HostBatch:
        """(This process's share of) the batch of a step, on the host.

        Returns:
            `image`: uint8[share, height, width, channels]; `label`: int32[share]; `index`:
            int32[share], the example that the order has there; `damaged`: int32[share], how many
            examples in a row from that one on are damaged, so that the one behind them stands here.
            Where even that is damaged, `damaged` is `max_damaged + 1` or all, and `image` is blank.
        """
        return self._batches(seed)[step]

    def host_batches(self, step: int, seed: int) -> Any:
        """An iterator over the batches of `step`, `step + 1`, …, decoded ahead."""
        return iter(self.dataset(step, seed))

    def dataset(
        self, step: int, seed: int, begin_process: Callable[[int, int], None] | None = None
    ) -> Any:
        """The batches of `step`, `step + 1`, … as a `grain.IterDataset`, decoded ahead.

        Args:
            step: of the first batch.
            seed: of the order.
            begin_process: called in each process that decodes, with its number and how many there are.

        Raises:
            UserError: this system has no memory that the processes could share.
        """
        import grain

        threads = self.num_threads
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(4, threads))
        batches = self._batches(seed)[step:].to_iter_dataset(options)
        if not self.num_processes:
            return batches
        self._refuse_missing_memory()
        _parse_flags()
        options = grain.MultiprocessingOptions(num_workers=self.num_processes)
        return batches.mp_prefetch(options, worker_init_fn=begin_process)

    def _refuse_missing_memory(self) -> None:
        # A semaphore is a file of /dev/shm, and so is each batch of the processes.
        try:
            multiprocessing.get_context("spawn").Lock()
        except OSError as error:
            raise self.process_failed(f"need /dev/shm ({error.strerror})") from error

    def process_failed(self, problem: str) -> UserError:
        """The error where a process that decodes has ended, or cannot begin."""
        fix = "set it to 0, which decodes by threads, or give more memory (`docker run --shm-size=8g`)"
        return UserError("data.num_processes", self.num_processes, problem, fix)

    def _batches(self, seed: int) -> Any:
        import grain

        order = grain.MapDataset.range(self.num_examples).seed(seed).shuffle().repeat()
        if self.repeats > 1:
            order = grain.MapDataset.source(_Repeated(order, self.repeats)).seed(seed)
        elements = order.random_map(self._load)
        return grain.MapDataset.source(_Batches(elements, self.batch_size, self.positions))

    def _load(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        for damaged in range(self._attempts):
            try:
                image, label = self.examples[(index + damaged) % self.num_examples]
                image = self._crop(image, rng)
                return _element(image, label, index, damaged)
            except DamagedImageError:
                continue
        return _element(np.zeros((0, 0, 0), np.uint8), 0, index, self._attempts)

    def _crop(self, image: Pixels, rng: np.random.Generator) -> np.ndarray:
        if self._random_crop:
            return random_resized_crop(image, self.geometry, rng)
        return sized(image, self.geometry, self._shape)


def _element(image: np.ndarray, label: int, index: int, damaged: int) -> dict[str, Any]:
    numbers = {"label": label, "index": index, "damaged": damaged}
    return {"image": image} | {name: np.int32(number) for name, number in numbers.items()}


class _Repeated:
    """Each element of an endless order several times in a row."""

    def __init__(self, order: Any, repeats: int) -> None:
        self.order, self.repeats = order, repeats

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, position: int) -> int:
        return self.order[position // self.repeats]


class _Batches:
    """The share of each batch of an endless stream of elements."""

    def __init__(self, elements: Any, batch_size: int, positions: Sequence[int]) -> None:
        self.elements, self.batch_size, self.positions = elements, batch_size, positions

    def __len__(self) -> int:
        return len(self.elements) // self.batch_size

    def __getitem__(self, step: int) -> HostBatch:
        start = step * self.batch_size
        elements = (self.elements[start + position] for position in self.positions)
        return _stacked(elements, len(self.positions))


def _stacked(elements: Iterable[dict[str, Any]], count: int) -> HostBatch:
    # One by one, so that a few elements' memory serves all of them.
    batch: HostBatch = {}
    for place, element in enumerate(elements):
        if not batch:
            batch = {name: np.empty((count, *np.shape(a)), a.dtype) for name, a in element.items()}
        if batch["image"].size == 0 < element["image"].size:
            # Those before were blank and had no size of their own.
            batch["image"] = np.zeros((count, *element["image"].shape), np.uint8)
        for name, array in element.items():
            batch[name][place] = array if array.size else 0
    return batch


def host_eval_batches(
    examples: Examples,
    geometry: Geometry,
    batch_size: int,
    num_threads: int,
    positions: range | None = None,
    shape: tuple[int, int, int] | None = None,
) -> Iterator[HostBatch]:
    """All examples of a split once, in order, in batches of one size.

    Args:
        examples: random access to the split.
        geometry: of the images.
        batch_size: of the whole batch.
        num_threads: threads that decode.
        positions: of the batch, that are made here; None: all.
        shape: as of `HostStream`.

    Raises:
        UserError: an image has another shape, or a wrong label.

    Yields:
        `image` uint8[share, …], `label` int32[share] and `mask` bool[share], which is False for
        damaged images and for the padding of the last batch.
    """
    import grain

    positions = positions or range(batch_size)
    share = len(positions)
    shape = shape or _first_shape(examples, geometry)
    blank = np.zeros(shape, np.uint8)

    def load(place: int) -> dict[str, Any]:
        index = place // share * batch_size + positions[place % share]
        if index < len(examples):
            with contextlib.suppress(DamagedImageError):
                image, label = examples[index]
                array = sized(image, geometry, shape)
                return {"image": array, "label": np.int32(label), "mask": np.True_}
        return {"image": blank, "label": np.int32(0), "mask": np.False_}

    places = -(-len(examples) // batch_size) * share
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=2 * share)
    dataset = grain.MapDataset.range(places).map(load).to_iter_dataset(options)
    yield from dataset.batch(share)


def _first_shape(examples: Examples, geometry: Geometry) -> tuple[int, int, int]:
    """Shape, under a geometry, of the first image that can be read."""
    size = geometry.size
    for index in range(len(examples)):
        with contextlib.suppress(DamagedImageError):
            height, width, channels = examples[index][0].shape
            return size or height, size or width, channels
    return size or 1, size or 1, 3


def _parse_flags() -> None:
    # Grain's workers copy absl's flags, which must be parsed.
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["resnet_jax"])
