"""Images per second and core of the training stream, side by side with tf.data and Pillow under torch.

    python benchmarks/input_pipeline.py --tensorflow-python=TF_ENVIRONMENT/bin/python

All turn the same JPEG files, in memory, into batches of random resized crops: this project's stream
(uint8; mirrored later, on the device), tf.data (`decode_and_crop_jpeg`, bilinear resize, flip;
float32), and a torch DataLoader over Pillow (as torchvision does: decode, crop, resize, flip; uint8).
`arrayrecord` is this project's stream again, reading the files of the data set. Each runs in a process
of its own with one thread on one core, and the processes take turns, a round each. A core's second is
a second of CPU time of the process, so that other work on the machine does not count. This project's
stream is faster where `native_jpeg/` is installed, and the result says whether it is. Prints JSON.
"""

import argparse
import io
import itertools
import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
CROP = {"scale": (0.08, 1.0), "ratio": (3 / 4, 4 / 3)}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--name", default="imagenette/320px-v2", help="TFDS name")
    parser.add_argument("--data_dir", help="TFDS directory")
    parser.add_argument("--set_size", type=int, default=4000, help="files, the first of the split")
    parser.add_argument("--images", type=int, default=1024, help="images of a round")
    parser.add_argument(
        "--enlarge", type=int, nargs=2, help="width and height to encode them anew at"
    )
    parser.add_argument("--image_size", type=int, default=224, help="of a crop, pixels")
    parser.add_argument("--batch_size", type=int, default=128, help="images of a batch")
    parser.add_argument("--rounds", type=int, default=7, help="of each pipeline, in turn")
    parser.add_argument("--tensorflow-python", help="a Python that has tensorflow; else this one")
    parser.add_argument(
        "--workers", nargs="*", help="only this project: THREADSxPROCESSES, such as 4x0 1x2"
    )
    parser.add_argument("--pipeline", choices=PIPELINES, help=argparse.SUPPRESS)
    parser.add_argument("--files", help=argparse.SUPPRESS)
    return parser.parse_args()


def read_files(arguments: argparse.Namespace) -> list[bytes]:
    from PIL import Image

    from resnet_jax.data.sources import open_source

    examples = open_source(arguments.name, arguments.data_dir).open("train")
    files = [examples[index][0].content for index in range(min(arguments.set_size, len(examples)))]
    if not arguments.enlarge:
        return files
    enlarged = []
    for content in files:
        image = Image.open(io.BytesIO(content)).convert("RGB").resize(arguments.enlarge)
        file = io.BytesIO()
        image.save(file, "JPEG", quality=90)
        enlarged.append(file.getvalue())
    return enlarged


def ours(arguments: argparse.Namespace, files: list[bytes]) -> Iterator:
    from resnet_jax.data.decoding import EncodedImage

    class Files:
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, index: int) -> tuple[EncodedImage, int]:
            return EncodedImage(files[index], str(index)), 0

    data = _stream(arguments, Files())
    # Nothing is made ahead, so that a round pays for its own batches alone.
    return (data.host_batch(step, 0) for step in itertools.count())


def arrayrecord(arguments: argparse.Namespace, files: list[bytes]) -> Iterator:
    from resnet_jax.data.sources import open_source

    data = _stream(arguments, open_source(arguments.name, arguments.data_dir).open("train"))
    return (data.host_batch(step, 0) for step in itertools.count())


def _stream(arguments: argparse.Namespace, examples, threads: int = 1, processes: int = 0):
    from resnet_jax.data.images import Geometry
    from resnet_jax.data.stream import HostStream

    return HostStream(
        examples,
        Geometry(arguments.image_size),
        batch_size=arguments.batch_size,
        random_crop=True,
        num_threads=threads,
        num_processes=processes,
    )


def compare_workers(arguments: argparse.Namespace) -> None:
    """Images per second of wall time by threads and processes, in turn, on all cores."""
    from resnet_jax.data.sources import open_source

    examples = open_source(arguments.name, arguments.data_dir).open("train")
    batches = max(1, arguments.images // arguments.batch_size)
    rates: dict[str, list[float]] = {pair: [] for pair in arguments.workers}
    for _ in range(arguments.rounds):
        for pair, found in rates.items():
            threads, processes = map(int, pair.split("x"))
            stream = _stream(arguments, examples, threads, processes).host_batches(0, 0)
            for _ in range(batches):
                next(stream)
            start = time.perf_counter()
            for _ in range(batches):
                next(stream)
            found.append(batches * arguments.batch_size / (time.perf_counter() - start))
            stream.close()
    print(json.dumps({pair: spread(found, 0) for pair, found in rates.items()}, indent=2))


def tensorflow(arguments: argparse.Namespace, files: list[bytes]) -> Iterator:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)

    def load(content):
        box, size, _ = tf.image.sample_distorted_bounding_box(
            tf.io.extract_jpeg_shape(content),
            tf.zeros([1, 0, 4]),
            min_object_covered=0.0,
            aspect_ratio_range=CROP["ratio"],
            area_range=CROP["scale"],
            max_attempts=10,
            use_image_if_no_bounding_boxes=True,
        )
        window = tf.concat([box[:2], size[:2]], 0)
        image = tf.image.decode_and_crop_jpeg(content, window, channels=3)
        image = tf.image.resize(image, (arguments.image_size,) * 2)
        return tf.image.random_flip_left_right(image), 0

    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    dataset = tf.data.Dataset.from_tensor_slices(files).repeat().map(load)
    dataset = dataset.batch(arguments.batch_size, drop_remainder=True)
    return iter(dataset.with_options(options))


def pillow(arguments: argparse.Namespace, files: list[bytes]) -> Iterator:
    import numpy as np
    import torch
    from PIL import Image

    torch.set_num_threads(1)
    size, rng = arguments.image_size, np.random.default_rng(0)
    from resnet_jax.data.images import _draw_box

    class Files(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, index: int):
            image = Image.open(io.BytesIO(files[index])).convert("RGB")
            box = _draw_box(image.height, image.width, rng) or (0, 0, *image.size)
            image = image.crop(box).resize((size, size), Image.Resampling.BILINEAR)
            if rng.random() < 0.5:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            return torch.from_numpy(np.array(image)), 0

    loader = torch.utils.data.DataLoader(
        Files(), arguments.batch_size, shuffle=True, drop_last=True
    )
    while True:
        yield from loader


PIPELINES: dict[str, Callable[[argparse.Namespace, list[bytes]], Iterator]] = {
    "ours": ours,
    "arrayrecord": arrayrecord,
    "tensorflow": tensorflow,
    "pillow": pillow,
}


def work(arguments: argparse.Namespace) -> None:
    """Make a round of batches for each line of stdin, and print its CPU and wall seconds."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    files = pickle.loads(Path(arguments.files).read_bytes())
    batches = PIPELINES[arguments.pipeline](arguments, files)
    next(batches)
    print("ready", flush=True)
    for _ in sys.stdin:
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(arguments.images // arguments.batch_size):
            next(batches)
        print(time.process_time() - cpu, time.perf_counter() - wall, flush=True)


def main() -> None:
    arguments = parse_arguments()
    if arguments.pipeline:
        work(arguments)
        return
    if arguments.workers:
        compare_workers(arguments)
        return
    pythons = dict.fromkeys(PIPELINES, sys.executable)
    pythons["tensorflow"] = arguments.tensorflow_python or sys.executable
    names = ["ours", "tensorflow", "pillow"] + ["arrayrecord"] * (not arguments.enlarge)
    if not arguments.tensorflow_python and find_spec("tensorflow") is None:
        names.remove("tensorflow")
    images = arguments.images // arguments.batch_size * arguments.batch_size
    with tempfile.NamedTemporaryFile() as file:
        files = read_files(arguments)
        file.write(pickle.dumps(files))
        file.flush()
        workers = {name: start(pythons[name], name, file.name) for name in names}
        rates: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(arguments.rounds):
            for name, worker in workers.items():
                worker.stdin.write("\n")
                worker.stdin.flush()
                rates[name].append(images / float(worker.stdout.readline().split()[0]))
        for worker in workers.values():
            worker.communicate()
    result = {
        "bytes_a_file": round(statistics.mean(map(len, files))),
        "images_a_core_second": {name: spread(values, 0) for name, values in rates.items()},
        "ours_over": {
            name: spread([a / b for a, b in zip(rates["ours"], rates[name], strict=True)], 2)
            for name in names[1:]
        },
        "rounds": arguments.rounds,
        "native_jpeg": find_spec("resnet_jax_jpeg") is not None,
    }
    print(json.dumps(result, indent=2))


def start(python: str, name: str, files: str) -> subprocess.Popen:
    worker = subprocess.Popen(
        [python, __file__, *sys.argv[1:], f"--pipeline={name}", f"--files={files}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    if worker.stdout.readline().strip() != "ready":
        sys.exit(f"{name} did not start")
    return worker


def spread(values: list[float], digits: int) -> dict[str, float]:
    statistic = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: round(value, digits) for name, value in statistic.items()}


if __name__ == "__main__":
    main()
