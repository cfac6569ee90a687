"""Images per second of our compiled step, and of the same network in other ways.

    python benchmarks/train_step.py --model=resnet20 --batch_size=128 --image_size=32
    python benchmarks/train_step.py --against pmap nnx

The others: `torch` and `flax`, the same network in PyTorch and plain Flax; `pmap`, our step as
`parallel.mode=pmap` compiles it, on one device; `nnx`, our network in a step by `nnx.jit` and
`nnx.Optimizer`, as one writes it with the library. They take turns in one process, so that all meet
the same machine, with memory in huge pages, as in commands of launch.py. Prints one JSON object.

The process is left at JAX's default, for plain Flax to run as its user has it; with `nnx` it is without
YNNPACK, as docs/models.md advises users of the library.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from resnet_jax.huge_pages import use_huge_pages

if __name__ == "__main__":
    use_huge_pages()

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from benchmarks import plain_flax
from benchmarks.measuring import machine, summary
from resnet_jax import models
from resnet_jax.compiler import turn_off_ynnpack
from resnet_jax.training.hyperparameters import Hyperparameters
from resnet_jax.training.replicas import PmapReplicas
from resnet_jax.training.state import Network, TrainState, initial_state, make_network
from resnet_jax.training.steps import StepOptions, eval_step, train_step

try:
    import torch

    from benchmarks.torch_resnet import copy_weights, torch_resnet
except ImportError:
    torch = None

TORCH_FIELDS = {"family", "depth", "shortcut", "width_factor"}
TORCH_FIELDS |= {"groups", "bottleneck_width", "squeeze_reduction"}
RATE, MOMENTUM, DECAY = 0.01, 0.9, 1e-4
OTHERS, OUR_OTHERS = ("torch", "flax"), ("pmap", "nnx")
Arguments = argparse.Namespace
Batch = dict[str, np.ndarray]
Run = Callable[[int], float]  # Does so many steps; returns the mean loss of the last one.


def parse_arguments() -> Arguments:
    formatter, kinds = argparse.ArgumentDefaultsHelpFormatter, ("auto", *models.IMPLEMENTATIONS)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=formatter)
    add = parser.add_argument
    add("--model", default="resnet20", choices=models.ZOO, help="name of the network")
    add("--mode", default="train", choices=("train", "eval"), help="which step")
    add("--batch_size", type=int, default=128, help="images a step")
    add("--image_size", type=int, default=32, help="height and width in pixels")
    add("--convolution", default="auto", choices=kinds, help="auto: what `train` takes")
    add("--dtype", default="float32", choices=("float32", "bfloat16"), help="in torch: autocast")
    add("--steps_per_call", type=int, default=1, help="of ours; more than 1: a lax.scan")
    add("--steps", type=int, default=10, help="timed steps a round")
    add("--warm_up", type=int, default=1, help="calls before those timed")
    add("--repeats", type=int, default=5, help="rounds, the networks in turn")
    choices = OTHERS + OUR_OTHERS
    add(
        "--against",
        nargs="*",
        default=OTHERS,
        choices=choices,
        help="compared with ours, if possible",
    )
    add("--compile", action="store_true", help="torch by torch.compile instead of eager")
    arguments = parser.parse_args()
    per_call = arguments.steps_per_call
    if arguments.steps % per_call or (per_call > 1 and arguments.mode == "eval"):
        parser.error("--steps_per_call must divide --steps, and is for --mode=train")
    if {"flax", "nnx"} <= set(arguments.against):
        parser.error("--against: flax and nnx need other settings of the process")
    return arguments


def make_batch(arguments: Arguments, num_classes: int) -> Batch:
    """Random images float32[batch, size, size, 3] and labels int32[batch]; all examples count."""
    rng, count, size = np.random.default_rng(0), arguments.batch_size, arguments.image_size
    images = rng.standard_normal((count, size, size, 3), np.float32)
    labels = rng.integers(0, num_classes, count, np.int32)
    keys = jax.random.split(jax.random.key(0), count)
    return {"image": images, "label": labels, "mask": np.ones(count, bool), "key": keys}


def make_step(
    arguments: Arguments, network: Network, optimizer: Any, axis_name: str | None = None
) -> Callable[[TrainState, Any], tuple[TrainState, Any]]:
    """Our step of training or evaluation: from state and batch to state and metrics."""
    numbers, options = Hyperparameters(), StepOptions(axis_name=axis_name)
    if arguments.mode == "eval":
        return lambda state, batch: (
            state,
            eval_step(state.evaluated(), batch, network, options),
        )
    static = numbers, network, lambda numbers: optimizer, options
    return lambda state, batch: train_step(state, batch, *static)


def mean_loss(metrics: Any) -> float:
    """Of the last step of a call."""
    return float(np.ravel(metrics["loss"] / metrics["count"])[-1])


def prepare_ours(
    arguments: Arguments, network: Network, optimizer: Any, state: TrainState, batch: Batch
) -> tuple[Run, dict[str, float]]:
    """Our step, and the seconds that tracing and compiling it took; uses up `state`."""
    per_call, step = arguments.steps_per_call, make_step(arguments, network, optimizer)

    def call(state: TrainState, batch):
        repeated = partial(jax.lax.scan, lambda state, _: step(state, batch), length=per_call)
        return step(state, batch) if per_call == 1 else repeated(state)

    batch = jax.device_put(batch)
    start = time.perf_counter()
    lowered = jax.jit(call, donate_argnums=0).trace(state, batch).lower()
    traced = time.perf_counter()
    compiled = models.compile_checked(lowered)
    seconds = {"trace": traced - start, "compile": time.perf_counter() - traced}

    def run(steps: int) -> float:
        nonlocal state
        for _ in range(steps // per_call):
            state, metrics = compiled(state, batch)
        jax.block_until_ready(state)
        return mean_loss(metrics)

    return run, seconds


def prepare_pmap(
    arguments: Arguments, network: Network, optimizer: Any, state: TrainState, batch: Batch
) -> Run:
    """Our step as `parallel.mode=pmap` compiles it, on one device, from a copy of the state."""
    parallel = PmapReplicas(jax.devices()[:1])
    step = make_step(arguments, network, optimizer, parallel.axis_name)

    def call(state: TrainState, batch):
        return step(state, batch | {"key": jax.random.wrap_key_data(batch["key"])})

    compiled = parallel.compile(call, returns_state=True)
    state = parallel.place([state])
    batch = parallel.split(batch | {"key": np.asarray(jax.random.key_data(batch["key"]))})

    def run(steps: int) -> float:
        nonlocal state
        for _ in range(steps):
            state, metrics = compiled(state, batch)
        jax.block_until_ready(state)
        return mean_loss(parallel.take(metrics))

    return run


def prepare_torch(arguments: Arguments, model: models.ResNet, batch: Batch) -> Run | None:
    """The same network, weights and batch in torch; None without a torch for our device or network."""
    device = {"cpu": "cpu", "gpu": "cuda"}.get(jax.default_backend())
    if torch is None or device is None or (device == "cuda" and not torch.cuda.is_available()):
        return None
    fields = models.ZOO[arguments.model].fields
    if not fields.keys() <= TORCH_FIELDS:
        return None
    torch.set_num_threads(os.cpu_count() or 1)
    net = torch_resnet(**fields, num_classes=model.head.out_features)
    copy_weights(model, net)
    training = arguments.mode == "train"
    net = net.train(training).to(device, memory_format=torch.channels_last)
    on_gpu = device == "cuda"
    torch.backends.cudnn.benchmark = on_gpu  # Try which convolution is the fastest.
    images = torch.from_numpy(batch["image"]).permute(0, 3, 1, 2).to(device)  # channels_last
    labels = torch.from_numpy(batch["label"]).long().to(device)
    options = {"fused": True} if on_gpu else {}
    optimizer = torch.optim.SGD(net.parameters(), RATE, MOMENTUM, weight_decay=DECAY, **options)
    precision = torch.autocast(device, torch.bfloat16, enabled=arguments.dtype == "bfloat16")

    def loss_of(images, labels):
        return torch.nn.functional.cross_entropy(net(images), labels)

    if arguments.compile:
        loss_of = torch.compile(loss_of)

    def run(steps: int) -> float:
        for _ in range(steps):
            with torch.inference_mode(not training), precision:
                loss = loss_of(images, labels)
            if training:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return loss.item()  # Waits for all before it, on a GPU too.

    return run


def prepare_flax(arguments: Arguments, model: models.ResNet, batch: Batch) -> Run | None:
    """The same network, weights and batch in plain Flax; None if it has no such network."""
    fields = models.ZOO[arguments.model].fields
    family, depth = fields["family"], fields["depth"]
    with_defaults = {"family": family, "depth": depth, "shortcut": "A"}
    if fields not in (with_defaults, {"family": "imagenet", "depth": depth}):
        return None
    num_classes, dtype = model.head.out_features, arguments.dtype
    build = partial(plain_flax.ResNet, family, depth, num_classes, dtype=dtype)
    net = models.initialise(lambda rngs: build(rngs=rngs))
    plain_flax.copy_weights(model, net)
    return run_nnx(arguments, net, batch)


def prepare_nnx(arguments: Arguments, model: models.ResNet, batch: Batch) -> Run:
    """A copy of our network, in the step of plain Flax."""
    graph, arrays = nnx.split(model)  # Our step uses its own up.
    return run_nnx(arguments, nnx.merge(graph, jax.tree.map(jnp.copy, arrays)), batch)


def run_nnx(arguments: Arguments, net: nnx.Module, batch: Batch) -> Run:
    """The step that one writes with `nnx.jit` and `nnx.Optimizer`."""
    images, labels = jax.device_put((batch["image"], batch["label"]))
    training = arguments.mode == "train"
    net.train() if training else net.eval()
    transform = optax.chain(optax.add_decayed_weights(DECAY), optax.sgd(RATE, MOMENTUM))
    optimizer = nnx.Optimizer(net, transform, wrt=nnx.Param)

    def run(steps: int) -> float:
        for _ in range(steps):
            if training:
                loss = plain_flax.train_step(net, optimizer, images, labels)
            else:
                loss = plain_flax.eval_step(net, images, labels)
        return float(loss)

    return run


def images_per_second(run: Run, arguments: Arguments) -> float:
    if arguments.warm_up:  # Another had the machine before.
        run(arguments.warm_up * arguments.steps_per_call)
    start = time.perf_counter()
    run(arguments.steps)
    return arguments.batch_size * arguments.steps / (time.perf_counter() - start)


def ratios(speeds: dict[str, list[float]]) -> dict[str, dict[str, float] | None]:
    """Ours over each other implementation, and each other way of ours over it, in the same round."""
    found = {}
    for name in OTHERS + OUR_OTHERS:
        pair = (name, "ours") if name in OUR_OTHERS else ("ours", name)
        rounds = zip(*(speeds[one] for one in pair), strict=True) if name in speeds else ()
        found["{}_over_{}".format(*pair)] = summary([a / b for a, b in rounds]) if rounds else None
    return found


def main() -> None:
    arguments = parse_arguments()
    if "nnx" in arguments.against:
        turn_off_ynnpack()  # Before JAX starts.
    jax.config.update("jax_enable_compilation_cache", False)
    if arguments.convolution == "auto":
        backend, dtype = jax.default_backend(), arguments.dtype
        arguments.convolution = models.automatic_implementation(backend, dtype)
    options = {"convolution": arguments.convolution, "dtype": arguments.dtype}
    network = make_network(lambda rngs: models.create(arguments.model, rngs=rngs, **options))
    optimizer = optax.chain(optax.add_decayed_weights(DECAY), optax.sgd(RATE, MOMENTUM))
    state = initial_state(network, optimizer, seed=0, with_ema=False)
    model = nnx.merge(network.train_graph, state.params, state.batch_stats)
    batch = make_batch(arguments, model.head.out_features)
    macs = models.count_macs(model, batch["image"].shape[1:])
    prepare = {
        "torch": prepare_torch,
        "flax": prepare_flax,
        "nnx": prepare_nnx,
        "pmap": lambda *_: prepare_pmap(arguments, network, optimizer, state, batch),
    }
    others = {name: prepare[name](arguments, model, batch) for name in arguments.against}
    ours, seconds = prepare_ours(arguments, network, optimizer, state, batch)

    runs = {"ours": ours} | {name: run for name, run in others.items() if run}
    # Equal: all compute the same.
    losses = {name: run(arguments.steps_per_call) for name, run in runs.items()}
    speeds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(arguments.repeats):
        for name, run in runs.items():
            speeds[name].append(images_per_second(run, arguments))
    result = {
        **vars(arguments),
        "machine": machine(),
        "macs": macs,
        "seconds": {name: round(number, 2) for name, number in seconds.items()},
        "first_loss": losses,
        "images_per_second": {name: summary(values) for name, values in speeds.items()},
        **ratios(speeds),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
