"""The options of `analyze` and of each of its instruments."""

import argparse
from collections.abc import Callable

from resnet_jax.paths import local_path

EXAMPLES = "examples that are looked at, drawn by --seed; 0: all of the split"
Add = Callable[..., argparse.Action]


def add_instruments(command: argparse.ArgumentParser) -> None:
    """Give `analyze` a sub-command for each instrument."""
    instruments = command.add_subparsers(dest="analysis", required=True, metavar="NAME")

    def add(name: str, help_line: str, description: str, examples: int | None) -> Add:
        instrument = instruments.add_parser(
            name,
            help=help_line,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        _add_common(instrument.add_argument)
        if examples is not None:
            _add_networks(instrument.add_argument, examples)
            instrument.set_defaults(usual_examples=examples)
        return instrument.add_argument

    option = add(
        "gradients",
        "activations and gradients of every layer, against depth",
        "Norms and deviations of activations and of gradients in one pass, by batches of the size of\n"
        "training; and how alike the gradients at neighbouring inputs are (Balduzzi et al. 2017).",
        256,
    )
    option(
        "--running_statistics",
        action="store_true",
        help="batch norms as in evaluation; default: by the statistics of the batch, as in training",
    )
    option(
        "--lines",
        type=int,
        default=16,
        metavar="N",
        help="between two examples, for the correlation of gradients; 0: without it; default 16",
    )

    option = add(
        "layer_chain",
        "why signals vanish or explode in chains of layers",
        "Norms of activations and gradients along chains of fully connected layers, with and without\n"
        "identity shortcuts, at several scales of the weights. It needs no network.",
        None,
    )
    option(
        "--weight_scales",
        type=float,
        nargs="+",
        default=[0.8, 0.9, 1.0, 1.1, 1.25],
        metavar="SCALE",
        help="sqrt(width) times the deviation of the weights; default 0.8 0.9 1 1.1 1.25",
    )
    option("--activation", choices=("linear", "relu", "tanh"), default="linear")
    option("--depth", type=int, default=50, metavar="N", help="layers; default 50")
    option("--width", type=int, default=128, metavar="N", help="units of a layer; default 128")
    option("--draws", type=int, default=20, metavar="N", help="of the weights; default 20")

    option = add(
        "lesion",
        "error after deleting and shuffling blocks",
        "Delete each block, delete several, shuffle them (Veit et al. 2016, §4).",
        1000,
    )
    option(
        "--max_deleted",
        type=int,
        default=20,
        metavar="K",
        help="delete 1 to K random blocks; default 20, or all that there are",
    )
    option(
        "--num_draws",
        type=int,
        default=5,
        metavar="N",
        help="random choices of each number of blocks; default 5",
    )
    option(
        "--num_shuffles",
        type=int,
        default=40,
        metavar="N",
        help="random orders, from nearly sorted to shuffled; default 40",
    )

    option = add(
        "paths",
        "how long the paths are that carry the gradient",
        "Path lengths, and the gradient through paths of each length (Veit et al. 2016, §5).",
        32,
    )
    option(
        "--num_paths",
        type=int,
        default=100,
        metavar="N",
        help="random paths of each length; default 100",
    )

    option = add(
        "landscape",
        "the loss around a network",
        "Loss surfaces in filter-normalised directions (Li et al. 2018), between checkpoints, and along the\n"
        "course of training.",
        1000,
    )
    option(
        "--view",
        choices=("random", "trajectory", "interpolation"),
        default="random",
        help="along random directions (default); in the plane of the course of training; from the first\n"
        "of several runs to each other one, or within each run from --from_step to --step",
    )
    option("--dimensions", type=int, choices=(1, 2), default=2, help="of `random`; default 2")
    option("--size", type=int, default=25, metavar="N", help="points a side, odd; default 25")
    option(
        "--extent",
        type=float,
        default=1.0,
        metavar="A",
        help="`random` goes from -A to A times the norm of each filter; default 1",
    )
    option("--from_step", metavar="STEP", help="where `interpolation` within a run begins")
    option(
        "--statistics",
        choices=("running", "batch"),
        default="running",
        help="of batch norms: those of the network (default), or of each batch where the weights are",
    )
    option("--batch_size", type=int, default=100, metavar="N", help="examples at once; default 100")

    option = add(
        "deepen",
        "a deeper network that computes the same function",
        "Put identity blocks at the end of each stage of a trained network (He et al. 2015, §3.1), check\n"
        "that it computes the same, and write what trains it on: deepened.safetensors and deepened.py.",
        1000,
    )
    option(
        "--depth",
        type=int,
        required=True,
        metavar="N",
        help="layers of the deeper network; its own: nothing is added, to compare with",
    )

    option = add(
        "features",
        "what each depth sees",
        "Feature maps with and without the skip path, class activation maps (Grad-CAM), similarity of\n"
        "layers (CKA), first-layer filters.",
        500,
    )
    option(
        "--images",
        type=int,
        nargs="+",
        metavar="I",
        help="which of the examples are shown, from 0; default: the first four",
    )

    option = add(
        "curvature",
        "how the loss curves",
        "Top eigenvalues and trace of the Hessian, and the gradient noise scale, in evaluation mode.",
        500,
    )
    option("--eigenvalues", type=int, default=5, metavar="N", help="largest ones; default 5")
    option(
        "--lanczos_steps",
        type=int,
        default=30,
        metavar="N",
        help="products with the Hessian for the eigenvalues; default 30",
    )
    option(
        "--probes",
        type=int,
        default=20,
        metavar="N",
        help="products with the Hessian for the trace; default 20",
    )
    option(
        "--noise_examples",
        type=int,
        metavar="N",
        help="for the noise scale, which needs more; 0: all; default: those of --examples",
    )

    add(
        "ensembles",
        "predictions averaged over networks",
        "Accuracy, calibration and disagreement of networks and of their averages.",
        0,
    )


def _add_common(option: Add) -> None:
    where = "where files go; default: analysis in the run directory"
    option("--out", metavar="DIR", type=local_path("--out"), help=where)
    option("--seed", type=int, default=0, help="of all that is drawn at random; default 0")
    option("--json", action="store_true", help="print the results as one JSON object")


def _add_networks(option: Add, examples: int) -> None:
    option(
        "--workdir",
        metavar="DIR",
        type=local_path("--workdir"),
        nargs="+",
        action="extend",
        default=[],
        help="run directories",
    )
    option("--config", metavar="FILE", help="or a config, for its network at initialisation")
    option("--step", default="latest", help="latest, best, init, or the number of a checkpoint")
    option("--split", help="of the data; default: the one that the run evaluates")
    usual = f"{examples}, or all where there are fewer" if examples else "0"
    option("--examples", type=int, metavar="N", help=f"{EXAMPLES}; default {usual}")
