"""The instruments: what the command line shows of each, and their options. Imports no JAX.

A new instrument is an entry here and a module of this package with its name, which has a function
`analyze(request)` (`request.py`).
"""

from typing import Any, NamedTuple


class Instrument(NamedTuple):
    """What the command line knows of an instrument.

    Attributes:
        help_line: in the list of instruments.
        description: of what it does.
        examples: how many it looks at by default; 0: all; None: it needs no network.
        options: name → arguments of `ArgumentParser.add_argument`.
    """

    help_line: str
    description: str
    examples: int | None
    options: dict[str, dict[str, Any]]


def whole(default: int, help_text: str, metavar: str = "N") -> dict[str, Any]:
    """An option that is a whole number."""
    text = f"{help_text}; default {default}"
    return {"type": int, "default": default, "metavar": metavar, "help": text}


INSTRUMENTS = {
    "gradients": Instrument(
        "activations and gradients of every layer, against depth",
        """\
Norms and deviations of activations and of gradients in one pass, by batches of the size of
training; and how alike the gradients at neighbouring inputs are (Balduzzi et al. 2017).""",
        256,
        {
            "--running_statistics": {
                "action": "store_true",
                "help": "batch norms as in evaluation; default: by the statistics of the batch, as in training",
            },
            "--lines": whole(
                16, "between two examples, for the correlation of gradients; 0: without it"
            ),
        },
    ),
    "layer_chain": Instrument(
        "why signals vanish or explode in chains of layers",
        """\
Norms of activations and gradients along chains of fully connected layers, with and without
identity shortcuts, at several scales of the weights. It needs no network.""",
        None,
        {
            "--weight_scales": {
                "type": float,
                "nargs": "+",
                "default": [0.8, 0.9, 1.0, 1.1, 1.25],
                "metavar": "SCALE",
                "help": "sqrt(width) times the deviation of the weights; default 0.8 0.9 1 1.1 1.25",
            },
            "--activation": {"choices": ("linear", "relu", "tanh"), "default": "linear"},
            "--depth": whole(50, "layers"),
            "--width": whole(128, "units of a layer"),
            "--draws": whole(20, "of the weights"),
        },
    ),
    "lesion": Instrument(
        "error after deleting and shuffling blocks",
        "Delete each block, delete several, shuffle them (Veit et al. 2016, §4).",
        1000,
        {
            "--max_deleted": whole(
                20, "delete 1 to K random blocks, or all if there are fewer", "K"
            ),
            "--num_draws": whole(5, "random choices of each number of blocks"),
            "--num_shuffles": whole(40, "random orders, from nearly sorted to shuffled"),
        },
    ),
    "paths": Instrument(
        "how long the paths are that carry the gradient",
        "Path lengths, and the gradient through paths of each length (Veit et al. 2016, §5).",
        32,
        {
            "--num_paths": whole(100, "random paths of each length"),
        },
    ),
    "landscape": Instrument(
        "the loss around a network",
        """\
Loss surfaces in filter-normalised directions (Li et al. 2018), between checkpoints, and along the
course of training.""",
        1000,
        {
            "--view": {
                "choices": ("random", "trajectory", "interpolation"),
                "default": "random",
                "help": "along random directions (default); in the plane of the course of training; from the first\n"
                "of several runs to each other one, or within each run from --from_step to --step",
            },
            "--dimensions": {
                "type": int,
                "choices": (1, 2),
                "default": 2,
                "help": "of `random`; default 2",
            },
            "--size": whole(25, "points a side, odd"),
            "--extent": {
                "type": float,
                "default": 1.0,
                "metavar": "A",
                "help": "`random` goes from -A to A times the norm of each filter; default 1",
            },
            "--from_step": {"metavar": "STEP", "help": "where `interpolation` within a run begins"},
            "--statistics": {
                "choices": ("running", "batch"),
                "default": "running",
                "help": "of batch norms: the network's (default), or of each batch where the weights are",
            },
            "--batch_size": whole(100, "examples at once"),
        },
    ),
    "deepen": Instrument(
        "a deeper network that computes the same function",
        """\
Put identity blocks at the end of each stage of a trained network (He et al. 2015, §3.1), check
that it computes the same, and write what trains it on: deepened.safetensors and deepened.py.""",
        1000,
        {
            "--depth": {
                "type": int,
                "required": True,
                "metavar": "N",
                "help": "layers of the deeper network; its own: nothing is added, to compare with",
            },
        },
    ),
    "features": Instrument(
        "what each depth sees",
        """\
Feature maps with and without the skip path, class activation maps (Grad-CAM), similarity of
layers (CKA), first-layer filters.""",
        500,
        {
            "--images": {
                "type": int,
                "nargs": "+",
                "metavar": "I",
                "help": "which of the examples are shown, from 0; default: the first four",
            },
        },
    ),
    "curvature": Instrument(
        "how the loss curves",
        "Top eigenvalues and trace of the Hessian, and the gradient noise scale, in evaluation mode.",
        500,
        {
            "--eigenvalues": whole(5, "largest ones"),
            "--lanczos_steps": whole(30, "products with the Hessian for the eigenvalues"),
            "--probes": whole(20, "products with the Hessian for the trace"),
            "--noise_examples": {
                "type": int,
                "metavar": "N",
                "help": "for the noise scale, which needs more; 0: all; default: as --examples",
            },
        },
    ),
    "ensembles": Instrument(
        "predictions averaged over networks",
        "Accuracy, calibration and disagreement of networks and of their averages.",
        0,
        {},
    ),
}
