"""Draw the pictures of the docs from run directories.

python docs/figures.py curve runs/fashion_mnist docs/images/fashion_mnist.png
python docs/figures.py curve runs/imagenette docs/images/imagenette.png
python docs/figures.py terminal docs/images/digits.svg -- python launch.py train …
"""

import argparse
import io
import json
import re
import subprocess
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text


def curve(run: str, out: str) -> None:
    """Train and test error against the epoch, and the learning rate, from metrics.jsonl."""
    import matplotlib.pyplot as plt

    lines = [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]
    facts = json.loads((Path(run) / "data.json").read_text())
    depth = json.loads((Path(run) / "config.json").read_text())["model"]["depth"]
    figure, axes = plt.subplots(figsize=(7, 3.6), dpi=150, layout="constrained")
    for event, style in (("train", {"ls": "--", "lw": 1}), ("eval", {"marker": "o"})):
        shown = [line for line in lines if line["event"] == event]
        errors = [100 * (1 - line["accuracy"]) for line in shown]
        last = f"{errors[-1]:.2f}%"
        label = f"train, with augmentation: {last}" if event == "train" else f"test: {last}"
        axes.plot([line["epoch"] for line in shown], errors, label=label, **style)
    axes.set(
        xlabel="epoch",
        ylabel="error (%)",
        # First training errors near chance are cut where those of the test set are small.
        ylim=(0, 40 if max(errors) < 40 else 100),
        title=f"ResNet-{depth} on {facts['name']} (last values in the legend)",
    )
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(out)


def terminal(out: str, command: list[str]) -> None:
    """What a command prints, as a picture of a terminal."""
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = printed.splitlines()
    events = [i for i, line in enumerate(lines) if line.startswith(("train", "eval"))]
    # The first and the last events are enough.
    kept = [*lines[: events[0] + 6], "...", *lines[events[-4] :]]
    console = Console(record=True, width=92, file=io.StringIO())
    console.print(Text("$ make train"))
    console.print(Text("\n".join(kept)))
    # No font is fetched: every reader has a monospaced one.
    style = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    style = style.replace("Fira Code", "DejaVu Sans Mono")
    console.save_svg(out, title="resnet_jax", code_format=style)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    of_run = commands.add_parser("curve", help="error by epoch of a run")
    of_run.add_argument("run")
    of_run.add_argument("out")
    of_command = commands.add_parser("terminal", help="what a command prints")
    of_command.add_argument("out")
    of_command.add_argument("words", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    if arguments.command == "curve":
        curve(arguments.run, arguments.out)
    else:
        terminal(arguments.out, [word for word in arguments.words if word != "--"])


if __name__ == "__main__":
    main()
