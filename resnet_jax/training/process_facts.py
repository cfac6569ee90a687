"""What all processes of a run must have alike apart from the config: software, settings, data and weights."""

import contextlib
import importlib.metadata
import os
from pathlib import Path
from typing import Any

import jax

import resnet_jax
from resnet_jax.config import Config, same_everywhere
from resnet_jax.data import content
from resnet_jax.data.cache import digest
from resnet_jax.training.experiment import Experiment
from resnet_jax.training.hosts import agree
from resnet_jax.training.model import chosen_convolution

PACKAGES = (
    "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pillow", "simplejpeg",
    "resnet-jax-jpeg", "resnet-jax-native",
)  # fmt: skip
# Settings of JAX that change numbers or the compiled programs.
SETTINGS = (
    "jax_default_dtype_bits",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_disable_jit",
    "jax_disable_most_optimizations",
    "jax_enable_custom_prng",
    "jax_enable_x64",
    "jax_legacy_prng_key",
    "jax_numpy_dtype_promotion",
    "jax_numpy_rank_promotion",
    "jax_optimization_level",
    "jax_random_seed_offset",
    "jax_softmax_custom_jvp",
    "jax_threefry_gpu_kernel_lowering",
    "jax_threefry_partitionable",
    "jax_use_shardy_partitioner",
)
# Read by XLA, the TPU's compiler, cuBLAS and cuDNN.
VARIABLES = (
    "XLA_FLAGS", "LIBTPU_INIT_ARGS", "TF_CUDNN_DETERMINISTIC", "NVIDIA_TF32_OVERRIDE",
    "CUBLAS_WORKSPACE_CONFIG",
)  # fmt: skip
# Flags that say where something is written, or how many devices this process has.
OWN_FLAGS = ("--xla_dump", "--xla_force_host_platform_device_count")


def refuse_other_processes(config: Config, experiment: Experiment, **facts: Any) -> None:
    """Check that all processes of a run compute one thing; all call this, before anything is written.

    Args:
        config: of the run.
        experiment: made from it.
        facts: others that all must have alike; JSON-serialisable.

    Raises:
        ReportedError, SystemExit: as `hosts.agree`.
    """
    if jax.process_count() > 1:
        software = _of_software()
        agree(facts | software | same_everywhere(config) | _of_experiment(experiment))


def _of_software() -> dict[str, Any]:
    """Versions, this package's code, and settings that change what is computed."""
    root = Path(resnet_jax.__file__).parent
    files = sorted(root.rglob("*.py"))
    names = [str(path.relative_to(root)) for path in files]
    versions = {f"version of {name}": _version(name) for name in PACKAGES}
    # A setting may be new or gone in another version of JAX.
    settings = {name: str(jax.config.values.get(name)) for name in SETTINGS}
    flags = {
        name: [f for f in os.environ.get(name, "").split() if not f.startswith(OWN_FLAGS)]
        for name in VARIABLES
    }
    code = content.of_facts(names, content.of_each(content.of_file, files))
    platform = jax.default_backend()
    return versions | settings | flags | {"code of resnet_jax": code[:12], "platform": platform}


def _version(package: str) -> str | None:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return None


def _of_experiment(experiment: Experiment) -> dict[str, Any]:
    """The data and the length of a run, and the weights that it starts from."""
    facts = dict(experiment.facts)
    classes = facts.pop("class_names")
    facts |= {f"class {label}": name for label, name in enumerate(classes)}
    inputs = experiment.inputs
    facts |= {
        "total steps": experiment.total_steps,
        "convolution": chosen_convolution(experiment.config),
        "training examples": digest(inputs.data.examples)[:12],
        "evaluated examples": digest(inputs.eval_examples)[:12],
    }
    if experiment.pretrained is not None:
        weights = sorted(experiment.pretrained.values.items())
        arrays = content.of_each(content.of_array, [array for _, array in weights])
        facts["weights of model.init_from"] = content.of_facts([n for n, _ in weights], arrays)[:12]
    return facts
